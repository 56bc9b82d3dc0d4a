/*
 * A stand-in for Huawei's libdcmi.so that answers from a scenario file.
 *
 * The structs and prototypes follow the layout that the vendor's dcmi_interface_api.h documents and are written here on
 * their own, so that a mistake in the Python binding cannot hide: their sizes are asserted here and compared by a test.
 *
 * The scenario is the file named by FAKE_DCMI_SCENARIO, or "fake_dcmi.scenario" beside this library. One setting a
 * line, "name=value". Settings of a chip begin with "card.chip." (first API) or "device." (second API, of the 950); a
 * value that is not set makes its call answer -8255, "not supported". "a|b|c" gives a to the first call, b to the
 * second, c to every later one.
 *
 *     init=-8005  init_v2=-8255  return codes of dcmi_init and dcmiv2_init (default 0)
 *     driver=25.3.rc1  dcmi=25.3.0
 *     cards=0 32768  0.chips=2  0.mcu=2     first API: cards, NPU chips of card 0, id of its MCU
 *     devices=0 1                           second API
 *     list.code=-8005            return code of the list of cards or devices;  0.chips.code=-8007 of one card's chips
 *     0.0.type=Ascend  0.0.name=910B3  0.0.npu=910B3  0.0.version=V1
 *     0.0.logic=0  0.0.phy=0  0.0.bus=0000:C1:00.0  0.0.pci=19e5:d802:19e5:3003
 *     0.0.health=0  0.0.temperature=43  0.0.power=1018 (0.1 W)  0.0.aicore=12  0.0.npu_rate=10 (%)  0.0.aicore_mhz=1800
 *     0.0.hbm=65536 3318 1600    size and use in MB, MHz;  0.0.ddr=44280 42751  size and what is available in MB
 *     0.0.faults=80E18402 80E01801  fault.80E18402=text  active fault codes (hex; default none) and their words
 *     0.0.ecc_hbm=1 2 3 4 5 6    single, double, single ever, double ever, pages retired; or off;  likewise ecc_ddr
 *     0.0.firmware=7.8  0.0.firmware_imu=..  0.0.firmware_xloader=..  0.0.affinity=144-167
 *     0.0.processes=4711:1073741824 4712:52428800   pid:bytes
 *     topology=3  topology.0.0.1.0=6  topology.0.1=8  way between any two chips, between two named ones (second API)
 *     0.0.power.code=-8005       return code of the call that answers with the setting "power"; likewise the others
 *     0.0.lost=-8008             return code of every call that would have to reach the chip
 *     hang=dcmi_get_device_health:0.1@2   this call never returns (for chip 0.1, from its second call on)
 *     crash=dcmi_init            this call ends the process by SIGSEGV; ":chip" and "@call" as above
 *     chatter=1                  print to standard output, as some builds of the library do
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OK = 0,
    INVALID_PARAMETER = -8001,
    NOT_READY = -8012,
    NOT_SUPPORTED = -8255
};

enum { NAME_LENGTH = 32, TOPO_INFO_LENGTH = 32, MAX_PROCESSES = 32 };

struct chip_info {
    unsigned char type[NAME_LENGTH];
    unsigned char name[NAME_LENGTH];
    unsigned char version[NAME_LENGTH];
    unsigned int aicore_count;
};

struct chip_info_v2 {
    struct chip_info base;
    unsigned char npu_name[NAME_LENGTH];
};

struct hbm_info {
    unsigned long long size;
    unsigned int mhz;
    unsigned long long usage;
    int temperature;
    unsigned int bandwidth_rate;
};

struct memory_info_v3 {
    unsigned long long size;
    unsigned long long available;
    unsigned int mhz;
    unsigned long huge_page_size;
    unsigned long huge_pages_total;
    unsigned long huge_pages_free;
    unsigned int rate;
    unsigned char reserved[60];
};

/* Today's header ends after the retired pages (28 bytes); drivers that count the next ones fill 36. */
struct ecc_info {
    int enabled;
    unsigned int single_bit;
    unsigned int double_bit;
    unsigned int single_bit_total;
    unsigned int double_bit_total;
    unsigned int single_bit_retired;
    unsigned int double_bit_retired;
    unsigned int single_bit_next_retired;
    unsigned int double_bit_next_retired;
};

struct pcie_info_all {
    unsigned int vendor;
    unsigned int subvendor;
    unsigned int device;
    unsigned int subdevice;
    int domain;
    unsigned int bus;
    unsigned int slot;
    unsigned int function;
    unsigned char reserved[32];
};

struct process_memory {
    int pid;
    unsigned long bytes;
};

_Static_assert(sizeof(struct chip_info) == 100, "chip_info");
_Static_assert(sizeof(struct chip_info_v2) == 132, "chip_info_v2");
_Static_assert(sizeof(struct hbm_info) == 32, "hbm_info");
_Static_assert(sizeof(struct memory_info_v3) == 112, "memory_info_v3");
_Static_assert(sizeof(struct ecc_info) == 36, "ecc_info");
_Static_assert(sizeof(struct pcie_info_all) == 64, "pcie_info_all");
_Static_assert(sizeof(struct process_memory) == 16, "process_memory");

static char scenario[65536];
static int ready;

/* A chip as one function is asked about it; "chip" is -1 in the second API. */
struct subject {
    const char *function;
    int card;
    int chip;
};

static void load_scenario(void)
{
    char path[4096];
    const char *named = getenv("FAKE_DCMI_SCENARIO");
    if (named != NULL) {
        snprintf(path, sizeof path, "%s", named);
    } else {
        Dl_info self;
        char *slash;
        if (dladdr((void *)load_scenario, &self) == 0)
            abort();
        snprintf(path, sizeof path, "%s", self.dli_fname);
        slash = strrchr(path, '/');
        snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "fake_dcmi.scenario");
    }
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "fake DCMI: no scenario %s\n", path);
        abort();
    }
    scenario[0] = '\n';
    scenario[1 + fread(scenario + 1, 1, sizeof scenario - 2, file)] = '\0';
    fclose(file);
}

/* How often this name was counted, this time included. */
static int count(const char *name)
{
    static struct {
        char name[128];
        int count;
    } seen[256];
    for (int index = 0; index < 256; index++) {
        if (seen[index].name[0] == '\0')
            snprintf(seen[index].name, sizeof seen[index].name, "%s", name);
        if (strcmp(seen[index].name, name) == 0)
            return ++seen[index].count;
    }
    abort();
}

/* Value of a setting, NULL when it is not in the scenario. */
static const char *setting(const char *name)
{
    static char value[2048];
    char wanted[160];
    snprintf(wanted, sizeof wanted, "\n%s=", name);
    const char *found = strstr(scenario, wanted);
    if (found == NULL)
        return NULL;
    found += strlen(wanted);
    size_t length = strcspn(found, "\n");
    if (memchr(found, '|', length) != NULL) {
        for (int left = count(name); left > 1 && found[strcspn(found, "|\n")] == '|'; left--)
            found += strcspn(found, "|\n") + 1;
        length = strcspn(found, "|\n");
    }
    snprintf(value, sizeof value, "%.*s", (int)length, found);
    return value;
}

static int number(const char *name, int otherwise)
{
    const char *value = setting(name);
    return value != NULL ? atoi(value) : otherwise;
}

static void key_of(const struct subject *subject, char *key, size_t size)
{
    if (subject->chip < 0)
        snprintf(key, size, "%d", subject->card);
    else
        snprintf(key, size, "%d.%d", subject->card, subject->chip);
}

static const char *chip_setting(const struct subject *subject, const char *name)
{
    char key[64], full[128];
    key_of(subject, key, sizeof key);
    snprintf(full, sizeof full, "%s.%s", key, name);
    return setting(full);
}

/* Whether the setting "hang" or "crash" means this call. */
static int meant(const char *setting_name, const char *function, const char *key)
{
    char wanted[256], with_chip[192];
    const char *value = setting(setting_name);
    if (value == NULL)
        return 0;
    snprintf(wanted, sizeof wanted, "%s", value);
    char *at = strchr(wanted, '@');
    int from = 1;
    if (at != NULL) {
        *at = '\0';
        from = atoi(at + 1);
    }
    snprintf(with_chip, sizeof with_chip, "%s:%s", function, key);
    if (strcmp(wanted, function) != 0 && strcmp(wanted, with_chip) != 0)
        return 0;
    return count(wanted) >= from;
}

/* Misbehave when the scenario says so for this call. */
static void enter(const char *function, const char *key)
{
    if (number("chatter", 0)) {
        printf("fake DCMI: %s %s\n", function, key);
        fflush(stdout);
    }
    if (meant("hang", function, key))
        for (;;)
            pause();
    if (meant("crash", function, key))
        raise(SIGSEGV);
}

static int listed(const char *list, int wanted)
{
    const char *value = setting(list);
    char copy[1024], *rest = copy;
    snprintf(copy, sizeof copy, "%s", value != NULL ? value : "");
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (word[0] != '\0' && atoi(word) == wanted)
            return 1;
    return 0;
}

static int exists(const struct subject *subject)
{
    char name[64];
    if (subject->chip < 0)
        return listed("devices", subject->card);
    snprintf(name, sizeof name, "%d.chips", subject->card);
    return listed("cards", subject->card) && subject->chip < number(name, 0);
}

/* What every call about a chip does first: its return code by "name", or 0 and the value of that setting. */
static int begin_call(const struct subject *subject, const char *name, int reaches_chip, const char **value)
{
    char key[64], full[128];
    if (!ready)
        return NOT_READY;
    key_of(subject, key, sizeof key);
    enter(subject->function, key);
    if (!exists(subject))
        return INVALID_PARAMETER;
    snprintf(full, sizeof full, "%s.lost", key);
    int code = reaches_chip ? number(full, 0) : OK;
    if (code)
        return code;
    snprintf(full, sizeof full, "%s.%s.code", key, name);
    code = number(full, 0);
    if (code)
        return code;
    *value = chip_setting(subject, name);
    return *value != NULL ? OK : NOT_SUPPORTED;
}

static int integer(struct subject subject, const char *name, int *out)
{
    const char *value;
    int code = begin_call(&subject, name, 1, &value);
    if (code == OK)
        *out = (int)strtoll(value, NULL, 0);
    return code;
}

static int known_integer(struct subject subject, const char *name, int *out)
{
    const char *value;
    int code = begin_call(&subject, name, 0, &value);
    if (code == OK)
        *out = atoi(value);
    return code;
}

static int text(struct subject subject, const char *name, char *out, size_t size)
{
    const char *value;
    int code = begin_call(&subject, name, 1, &value);
    if (code == OK)
        snprintf(out, size, "%s", value);
    return code;
}

static void copy_name(const struct subject *subject, const char *name, unsigned char *target)
{
    const char *value = chip_setting(subject, name);
    snprintf((char *)target, NAME_LENGTH, "%s", value != NULL ? value : "");
}

static int chip_info(struct subject subject, struct chip_info *info, unsigned char *npu_name)
{
    const char *value;
    int code = begin_call(&subject, "name", 0, &value);
    if (code)
        return code;
    memset(info, 0, sizeof *info);
    copy_name(&subject, "type", info->type);
    copy_name(&subject, "name", info->name);
    copy_name(&subject, "version", info->version);
    if (npu_name != NULL)
        copy_name(&subject, "npu", npu_name);
    return OK;
}

static int pcie_info(struct subject subject, struct pcie_info_all *info)
{
    const char *value;
    int code = begin_call(&subject, "bus", 0, &value);
    if (code)
        return code;
    memset(info, 0, sizeof *info);
    if (sscanf(value, "%x:%x:%x.%x", (unsigned int *)&info->domain, &info->bus, &info->slot, &info->function) != 4)
        return INVALID_PARAMETER;
    if ((value = chip_setting(&subject, "pci")) != NULL)
        sscanf(value, "%x:%x:%x:%x", &info->vendor, &info->device, &info->subvendor, &info->subdevice);
    return OK;
}

static int utilization(struct subject subject, int type, unsigned int *rate)
{
    if (type != 2 && type != 13)
        return NOT_SUPPORTED;
    return integer(subject, type == 2 ? "aicore" : "npu_rate", (int *)rate);
}

static int frequency(struct subject subject, int type, unsigned int *mhz)
{
    return type == 7 ? integer(subject, "aicore_mhz", (int *)mhz) : NOT_SUPPORTED;
}

static int hbm_info(struct subject subject, struct hbm_info *info)
{
    const char *value;
    int code = begin_call(&subject, "hbm", 1, &value);
    if (code)
        return code;
    memset(info, 0, sizeof *info);
    sscanf(value, "%llu %llu %u", &info->size, &info->usage, &info->mhz);
    return OK;
}

static int ecc_info(struct subject subject, int type, struct ecc_info *info)
{
    const char *value;
    if (type != 0 && type != 2)
        return INVALID_PARAMETER;
    int code = begin_call(&subject, type == 0 ? "ecc_ddr" : "ecc_hbm", 1, &value);
    if (code)
        return code;
    memset(info, 0, sizeof *info);
    info->enabled = strcmp(value, "off") != 0;
    sscanf(value, "%u %u %u %u %u %u", &info->single_bit, &info->double_bit, &info->single_bit_total,
           &info->double_bit_total, &info->single_bit_retired, &info->double_bit_retired);
    return OK;
}

static int fault_codes(struct subject subject, int *found, unsigned int *codes, unsigned int room)
{
    const char *value = NULL;
    char copy[2048], *rest = copy;
    int code = begin_call(&subject, "faults", 1, &value);
    if (code && code != NOT_SUPPORTED)
        return code;
    *found = 0;
    snprintf(copy, sizeof copy, "%s", code == OK ? value : "");
    for (char *word; (word = strsep(&rest, " ")) != NULL && (unsigned int)*found < room;)
        if (word[0] != '\0')
            codes[(*found)++] = (unsigned int)strtoul(word, NULL, 16);
    return OK;
}

/* Below 256 bytes the library gives short words that do not say what is wrong. */
static int fault_text(struct subject subject, unsigned int fault, unsigned char *out, int size)
{
    char name[64], key[64];
    key_of(&subject, key, sizeof key);
    enter(subject.function, key);
    snprintf(name, sizeof name, "fault.%08X", fault);
    const char *value = setting(name);
    if (size < 48)
        return INVALID_PARAMETER;
    if (value == NULL)
        return NOT_SUPPORTED;
    snprintf((char *)out, (size_t)size, "%s", size < 256 ? "short words" : value);
    return OK;
}

static int component_version(struct subject subject, int component, unsigned char *version, unsigned int length)
{
    const char *name = component == 18 ? "firmware" : component == 8 ? "firmware_imu" : "firmware_xloader";
    if (length < 64)
        return INVALID_PARAMETER;
    return text(subject, name, (char *)version, length);
}

static int affinity(struct subject subject, char *cpus, int *length)
{
    int code = text(subject, "affinity", cpus, TOPO_INFO_LENGTH);
    if (code == OK)
        *length = (int)strlen(cpus);
    return code;
}

static int processes(struct subject subject, struct process_memory *list, int *found)
{
    const char *value;
    char copy[2048], *rest = copy;
    int code = begin_call(&subject, "processes", 1, &value);
    if (code)
        return code;
    *found = 0;
    snprintf(copy, sizeof copy, "%s", value);
    for (char *word; (word = strsep(&rest, " ")) != NULL && *found < MAX_PROCESSES;)
        if (sscanf(word, "%d:%lu", &list[*found].pid, &list[*found].bytes) == 2)
            ++*found;
    return OK;
}

static int topology(struct subject one, struct subject other, int *way)
{
    char key[64], other_key[64], name[160];
    if (!ready)
        return NOT_READY;
    key_of(&one, key, sizeof key);
    key_of(&other, other_key, sizeof other_key);
    enter(one.function, key);
    if (!exists(&one) || !exists(&other))
        return INVALID_PARAMETER;
    snprintf(name, sizeof name, "topology.%s.%s", key, other_key);
    if (setting(name) == NULL)
        snprintf(name, sizeof name, "topology.%s.%s", other_key, key);
    *way = number(name, number("topology", -1));
    return *way >= 0 ? OK : *way == -1 ? NOT_SUPPORTED : *way;
}

static int list_of(const char *function, const char *name, int *found, int *list, int room)
{
    char copy[1024], *rest = copy;
    if (!ready)
        return NOT_READY;
    enter(function, "");
    int code = number("list.code", 0);
    if (code)
        return code;
    const char *value = setting(name);
    *found = 0;
    snprintf(copy, sizeof copy, "%s", value != NULL ? value : "");
    for (char *word; (word = strsep(&rest, " ")) != NULL && *found < room;)
        if (word[0] != '\0')
            list[(*found)++] = atoi(word);
    return OK;
}

#ifdef USES_NEEDED
extern int fake_needed(void);
#endif

static int init(const char *function, const char *name)
{
#ifdef USES_NEEDED
    fake_needed();
#endif
    load_scenario();
    enter(function, "");
    int code = number(name, 0);
    ready = code == OK || ready;
    return code;
}

static int version(const char *function, const char *name, char *out, unsigned int length)
{
    enter(function, "");
    const char *value = setting(name);
    if (value == NULL)
        return NOT_SUPPORTED;
    snprintf(out, length, "%s", value);
    return OK;
}

unsigned int fake_dcmi_sizeof(const char *name)
{
#define SIZE(type) if (strcmp(name, #type) == 0) return sizeof(struct type)
    SIZE(chip_info);
    SIZE(chip_info_v2);
    SIZE(hbm_info);
    SIZE(memory_info_v3);
    SIZE(ecc_info);
    SIZE(pcie_info_all);
    SIZE(process_memory);
    return 0;
}

#define CHIP ((struct subject){__func__, card, device})
#define DEVICE ((struct subject){__func__, device, -1})

#ifndef V2_ONLY
int dcmi_init(void) { return init(__func__, "init"); }
int dcmi_get_driver_version(char *out, unsigned int length) { return version(__func__, "driver", out, length); }
int dcmi_get_dcmi_version(char *out, unsigned int length) { return version(__func__, "dcmi", out, length); }
int dcmi_get_card_list(int *found, int *list, int room) { return list_of(__func__, "cards", found, list, room); }

int dcmi_get_device_num_in_card(int card, int *found)
{
    char name[64], key[32];
    snprintf(key, sizeof key, "%d", card);
    enter(__func__, key);
    snprintf(name, sizeof name, "%d.chips.code", card);
    int code = number(name, 0);
    if (code)
        return code;
    snprintf(name, sizeof name, "%d.chips", card);
    *found = number(name, 0);
    return listed("cards", card) ? OK : INVALID_PARAMETER;
}

int dcmi_get_device_type(int card, int device, int *type)
{
    char name[64];
    struct subject subject = CHIP;
    const char *unused;
    snprintf(name, sizeof name, "%d.mcu", card);
    *type = number(name, -1) == device;
    int code = *type ? OK : begin_call(&subject, "unit", 0, &unused);
    if (code == OK && *type == 0)
        *type = atoi(unused); /* a chip of another kind: 1 MCU, 2 CPU */
    return code == NOT_SUPPORTED ? OK : code;
}

int dcmi_get_device_logic_id(int *logic, int card, int device) { return known_integer(CHIP, "logic", logic); }

int dcmi_get_device_phyid_from_logicid(unsigned int logic, unsigned int *phy)
{
    char copy[1024], name[64], *rest = copy;
    const char *cards = setting("cards");
    snprintf(copy, sizeof copy, "%s", cards != NULL ? cards : "");
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        snprintf(name, sizeof name, "%s.chips", word);
        int chips = number(name, 0);
        for (int device = 0; device < chips; device++) {
            int card = atoi(word);
            struct subject subject = CHIP;
            const char *value = chip_setting(&subject, "logic");
            if (value != NULL && (unsigned int)atoi(value) == logic)
                return known_integer(subject, "phy", (int *)phy);
        }
    }
    return INVALID_PARAMETER;
}

int dcmi_get_device_chip_info(int card, int device, struct chip_info *info) { return chip_info(CHIP, info, NULL); }
#ifndef NO_CHIP_INFO_V2 /* old drivers do not export it */
int dcmi_get_device_chip_info_v2(int card, int device, struct chip_info_v2 *info)
{
    return chip_info(CHIP, &info->base, info->npu_name);
}
#endif
int dcmi_get_device_pcie_info_v2(int card, int device, struct pcie_info_all *info) { return pcie_info(CHIP, info); }
int dcmi_get_device_health(int card, int device, int *out) { return integer(CHIP, "health", out); }
int dcmi_get_device_temperature(int card, int device, int *out) { return integer(CHIP, "temperature", out); }
int dcmi_get_device_power_info(int card, int device, int *out) { return integer(CHIP, "power", out); }
int dcmi_get_device_hbm_info(int card, int device, struct hbm_info *info) { return hbm_info(CHIP, info); }

int dcmi_get_device_memory_info_v3(int card, int device, struct memory_info_v3 *info)
{
    struct subject subject = CHIP;
    const char *value;
    int code = begin_call(&subject, "ddr", 1, &value);
    if (code)
        return code;
    memset(info, 0, sizeof *info);
    sscanf(value, "%llu %llu", &info->size, &info->available);
    return OK;
}

int dcmi_get_device_utilization_rate(int card, int device, int type, unsigned int *rate)
{
    return utilization(CHIP, type, rate);
}
int dcmi_get_device_frequency(int card, int device, int type, unsigned int *mhz) { return frequency(CHIP, type, mhz); }
int dcmi_get_device_ecc_info(int card, int device, int type, struct ecc_info *info)
{
    return ecc_info(CHIP, type, info);
}
int dcmi_get_device_errorcode_v2(int card, int device, int *found, unsigned int *codes, unsigned int room)
{
    return fault_codes(CHIP, found, codes, room);
}
int dcmi_get_device_errorcode_string(int card, int device, unsigned int fault, unsigned char *out, int size)
{
    return fault_text(CHIP, fault, out, size);
}
int dcmi_get_device_component_static_version(int card, int device, int component, unsigned char *out, unsigned int size)
{
    return component_version(CHIP, component, out, size);
}
int dcmi_get_affinity_cpu_info_by_device_id(int card, int device, char *cpus, int *length)
{
    return affinity(CHIP, cpus, length);
}
int dcmi_get_device_resource_info(int card, int device, struct process_memory *list, int *found)
{
    return processes(CHIP, list, found);
}
int dcmi_get_topo_info_by_device_id(int card, int device, int other_card, int other_device, int *way)
{
    return topology(CHIP, (struct subject){__func__, other_card, other_device}, way);
}
#endif

#ifndef V1_ONLY
int dcmiv2_init(void) { return init(__func__, "init_v2"); }
int dcmiv2_get_driver_version(char *out, unsigned int length) { return version(__func__, "driver", out, length); }
int dcmiv2_get_dcmi_version(char *out, unsigned int length) { return version(__func__, "dcmi", out, length); }
int dcmiv2_get_device_list(int *list, int *found, int room) { return list_of(__func__, "devices", found, list, room); }

int dcmiv2_get_device_type(int device, int *type)
{
    struct subject subject = DEVICE;
    const char *value = "0";
    int code = begin_call(&subject, "unit", 0, &value);
    *type = code == OK ? atoi(value) : 0;
    return code == NOT_SUPPORTED ? OK : code;
}

int dcmiv2_get_chip_phy_id_by_dev_id(int device, unsigned int *phy) { return known_integer(DEVICE, "phy", (int *)phy); }
int dcmiv2_get_device_chip_info(int device, struct chip_info_v2 *info)
{
    return chip_info(DEVICE, &info->base, info->npu_name);
}
int dcmiv2_get_device_pcie_info(int device, struct pcie_info_all *info) { return pcie_info(DEVICE, info); }
int dcmiv2_get_device_health(int device, int *out) { return integer(DEVICE, "health", out); }
int dcmiv2_get_device_temperature(int device, int *out) { return integer(DEVICE, "temperature", out); }
int dcmiv2_get_device_power_info(int device, int *out) { return integer(DEVICE, "power", out); }
int dcmiv2_get_device_hbm_info(int device, struct hbm_info *info) { return hbm_info(DEVICE, info); }
int dcmiv2_get_device_utilization_rate(int device, int type, unsigned int *rate)
{
    return utilization(DEVICE, type, rate);
}
int dcmiv2_get_device_frequency(int device, int type, unsigned int *mhz) { return frequency(DEVICE, type, mhz); }
int dcmiv2_get_device_ecc_info(int device, int type, struct ecc_info *info) { return ecc_info(DEVICE, type, info); }
int dcmiv2_get_device_error_code_list(int device, int *found, unsigned int *codes, unsigned int room)
{
    return fault_codes(DEVICE, found, codes, room);
}
int dcmiv2_get_device_error_info(int device, unsigned int fault, unsigned char *out, int size)
{
    return fault_text(DEVICE, fault, out, size);
}
int dcmiv2_get_device_component_static_version(int device, int component, unsigned char *out, unsigned int size)
{
    return component_version(DEVICE, component, out, size);
}
int dcmiv2_get_affinity_cpu_info_by_dev_id(int device, char *cpus, int *length)
{
    return affinity(DEVICE, cpus, length);
}
int dcmiv2_get_device_proc_mem_info(int device, struct process_memory *list, int *found)
{
    return processes(DEVICE, list, found);
}
int dcmiv2_get_topo_info_by_device_id(int device, int other, int *way)
{
    return topology(DEVICE, (struct subject){__func__, other, -1}, way);
}
#endif
