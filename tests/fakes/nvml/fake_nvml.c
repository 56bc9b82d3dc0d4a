/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1 that answers from a scenario file.
 *
 * The structs and prototypes follow the layout that NVIDIA's nvml.h documents and are written here on their own, so
 * that a mistake in the Python binding cannot hide: their sizes are asserted here and compared by a test.
 *
 * The scenario is the file named by FAKE_NVML_SCENARIO, or "fake_nvml.scenario" beside this library. One setting a
 * line, "name=value"; settings of a card begin with its number, those of its MIG instances with "0.mig.2.":
 *
 *     init=9                     return code of nvmlInitWithFlags (default 0)
 *     driver=550.54.15           driver version;  nvml=12.550.54.15  version of the library
 *     cuda=12040                 CUDA version of the driver
 *     count=2                    number of cards
 *     0.handle=15                return code for the handle of card 0 (also 0.mig.2.handle)
 *     0.name=NVIDIA L20          0.uuid=GPU-...          0.bus=00000000:01:00.0     0.pci=26ba   0.minor=0
 *     0.total=.. 0.free=.. 0.used=.. 0.reserved=..       memory in bytes
 *     0.memory=3                 return code of both memory calls;  0.memory_v2=3 of the second version alone
 *     0.capability=8.9           0.temperature=41        0.power=72000 (mW)         0.utilization=12
 *     0.power_limit=275000       0.clock.sm=2520         0.clock.memory=9001        0.throttle=64 (bits)
 *     0.ecc.corrected=0          and .uncorrected, .corrected_total, .uncorrected_total
 *     0.remapped=1,0,0,0         corrected, uncorrected, pending, failed
 *     0.retired.sbe=2            0.retired.dbe=0         0.retired.pending=1
 *     0.recovery=1               field 230               0.persistence=1            0.virtualization=2
 *     0.vbios=95.02.66.00.02     0.numa_memory=1         NUMA node of the card's memory
 *     0.nvlink.count=18          0.nvlink.peer=switch    or a PCI address; 0.nvlink.3.peer and 0.nvlink.3.state=0
 *     topology=50                level for all pairs;    topology.0.1=10            for one
 *     0.processes=12:1024,77:-1  pid:bytes, -1 for "not available"; process.12=python3 is a name
 *     0.mig=1                    MIG mode;               0.mig.pending=0            0.mig.max=7
 *     0.mig.2.uuid=MIG-..        instance 2 is there;    .name .gi .ci .size_mb .multiprocessors .gi_slices .ci_slices
 *     0.temperature.code=3       return code of the call that reads this setting
 *     hang=nvmlDeviceGetName:1   this call never returns (for card 1; without ":n" for any)
 *     crash=nvmlInitWithFlags    this call ends the process by SIGSEGV
 *     chatter=1                  print to standard output, as some builds of the library do
 *
 * A value may change from call to call: "10|20|30" ends at 30, "10|20|30|*" begins again. "!15" as a value stands for a
 * return code, "!hang" and "!crash" for what they say.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int nvmlReturn_t; /* an enum in the vendor's header */
typedef struct nvmlDevice_st *nvmlDevice_t;

enum {
    SUCCESS = 0,
    ERROR_INVALID_ARGUMENT = 2,
    ERROR_NOT_SUPPORTED = 3,
    ERROR_NOT_FOUND = 6,
    ERROR_INSUFFICIENT_SIZE = 7,
    ERROR_ARGUMENT_VERSION_MISMATCH = 25
};

typedef struct {
    char busIdLegacy[16];
    unsigned int domain;
    unsigned int bus;
    unsigned int device;
    unsigned int pciDeviceId; /* device id in the upper half, vendor id in the lower */
    unsigned int pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned long long total;
    unsigned long long free;
    unsigned long long used;
} nvmlMemory_t;

typedef struct {
    unsigned int version;
    unsigned long long total;
    unsigned long long reserved;
    unsigned long long free;
    unsigned long long used;
} nvmlMemory_v2_t;

typedef struct {
    unsigned int gpu;
    unsigned int memory;
} nvmlUtilization_t;

/* The second and the third version of the process call share this. */
typedef struct {
    unsigned int pid;
    unsigned long long usedGpuMemory;
    unsigned int gpuInstanceId;
    unsigned int computeInstanceId;
} nvmlProcessInfo_v2_t;

typedef union {
    double dVal;
    unsigned int uiVal;
    unsigned long ulVal;
    unsigned long long ullVal;
    signed long long sllVal;
    int siVal;
    unsigned short usVal;
} nvmlValue_t;

typedef struct {
    unsigned int fieldId;
    unsigned int scopeId;
    long long timestamp;
    long long latencyUsec;
    int valueType; /* 1: unsigned int */
    nvmlReturn_t nvmlReturn;
    nvmlValue_t value;
} nvmlFieldValue_t;

typedef struct {
    unsigned int multiprocessorCount;
    unsigned int sharedCopyEngineCount;
    unsigned int sharedDecoderCount;
    unsigned int sharedEncoderCount;
    unsigned int sharedJpegCount;
    unsigned int sharedOfaCount;
    unsigned int gpuInstanceSliceCount;
    unsigned int computeInstanceSliceCount;
    unsigned long long memorySizeMB;
} nvmlDeviceAttributes_t;

_Static_assert(sizeof(nvmlPciInfo_t) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(nvmlMemory_t) == 24, "nvmlMemory_t");
_Static_assert(sizeof(nvmlMemory_v2_t) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(nvmlUtilization_t) == 8, "nvmlUtilization_t");
_Static_assert(sizeof(nvmlProcessInfo_v2_t) == 24, "nvmlProcessInfo_v2_t");
_Static_assert(sizeof(nvmlValue_t) == 8, "nvmlValue_t");
_Static_assert(sizeof(nvmlFieldValue_t) == 40, "nvmlFieldValue_t");
_Static_assert(sizeof(nvmlDeviceAttributes_t) == 40, "nvmlDeviceAttributes_t");

#define MEMORY_V2_VERSION ((unsigned int)(sizeof(nvmlMemory_v2_t) | (2U << 24)))
#define MAX_CARDS 16
#define MAX_INSTANCES 8
#define MAX_CHANGING 256
#define FIELD_RECOVERY_ACTION 230

static char scenario[1 << 18];
static char handles[MAX_CARDS][1 + MAX_INSTANCES]; /* a handle is the address of its byte; [n][0] is card n */
static struct {
    const char *where;
    unsigned int calls;
} changing[MAX_CHANGING]; /* how often a setting with several values was read */

static void load_scenario(void)
{
    char path[4096];
    const char *named = getenv("FAKE_NVML_SCENARIO");
    if (named != NULL) {
        snprintf(path, sizeof path, "%s", named);
    } else {
        Dl_info self;
        char *slash;
        if (dladdr((void *)load_scenario, &self) == 0)
            abort();
        snprintf(path, sizeof path, "%s", self.dli_fname);
        slash = strrchr(path, '/');
        snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "fake_nvml.scenario");
    }
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "fake NVML: no scenario %s\n", path);
        abort();
    }
    scenario[0] = '\n';
    scenario[1 + fread(scenario + 1, 1, sizeof scenario - 2, file)] = '\0';
    fclose(file);
}

/* Counts the reads of a setting that has several values; returns how often it was read before. */
static unsigned int earlier_reads(const char *where)
{
    for (int place = 0; place < MAX_CHANGING; place++) {
        if (changing[place].where == NULL)
            changing[place].where = where;
        if (changing[place].where == where)
            return changing[place].calls++;
    }
    abort();
}

/* The part of "a|b|c" that this call gets. */
static void choose(const char *where, char *value)
{
    unsigned int parts = 1, wanted;
    int repeats = 0;
    if (strchr(value, '|') == NULL)
        return;
    for (const char *bar = strchr(value, '|'); bar != NULL; bar = strchr(bar + 1, '|'))
        parts++;
    if (strcmp(value + strlen(value) - 2, "|*") == 0) {
        repeats = 1;
        parts--;
    }
    wanted = earlier_reads(where);
    wanted = repeats ? wanted % parts : (wanted < parts ? wanted : parts - 1);
    char *start = value;
    while (wanted-- > 0)
        start = strchr(start, '|') + 1;
    size_t length = strcspn(start, "|");
    memmove(value, start, length);
    value[length] = '\0';
}

/* Value of a setting, "" when it is not in the scenario. */
static const char *setting(const char *name)
{
    static char value[4096];
    char wanted[128];
    snprintf(wanted, sizeof wanted, "\n%s=", name);
    const char *found = strstr(scenario, wanted);
    value[0] = '\0';
    if (found != NULL) {
        found += strlen(wanted);
        snprintf(value, sizeof value, "%.*s", (int)strcspn(found, "\n"), found);
        choose(found, value);
    }
    return value;
}

static void hang(void)
{
    for (;;)
        pause();
}

static int place_of(nvmlDevice_t device)
{
    return (int)((char *)device - &handles[0][0]);
}

static int card_of(nvmlDevice_t device)
{
    return place_of(device) / (1 + MAX_INSTANCES);
}

static const char *device_setting(nvmlDevice_t device, const char *name)
{
    char full[128];
    int instance = place_of(device) % (1 + MAX_INSTANCES) - 1;
    if (instance < 0)
        snprintf(full, sizeof full, "%d.%s", card_of(device), name);
    else
        snprintf(full, sizeof full, "%d.mig.%d.%s", card_of(device), instance, name);
    return setting(full);
}

static nvmlReturn_t code_of(nvmlDevice_t device, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.code", name);
    return atoi(device_setting(device, full));
}

/* A value "!.." is a return code or a misbehaviour. */
static nvmlReturn_t outcome(const char *value)
{
    if (value[0] == '\0')
        return ERROR_NOT_SUPPORTED;
    if (strcmp(value, "!hang") == 0)
        hang();
    if (strcmp(value, "!crash") == 0)
        raise(SIGSEGV);
    return value[0] == '!' ? atoi(value + 1) : SUCCESS;
}

/* Misbehave when the scenario says so for this call. */
static void enter(const char *call, int card)
{
    char with_card[128];
    snprintf(with_card, sizeof with_card, "%s:%d", call, card);
    const char *hanging = setting("hang");
    if (strcmp(hanging, call) == 0 || strcmp(hanging, with_card) == 0)
        hang();
    const char *crash = setting("crash");
    if (strcmp(crash, call) == 0 || strcmp(crash, with_card) == 0)
        raise(SIGSEGV);
    if (atoi(setting("chatter"))) {
        printf("fake NVML: %s\n", call);
        fflush(stdout);
    }
}

#define BEGIN(device, name)                         \
    do {                                            \
        enter(__func__, card_of(device));           \
        nvmlReturn_t code_ = code_of(device, name); \
        if (code_ != SUCCESS)                       \
            return code_;                           \
    } while (0)

static nvmlReturn_t copy(const char *value, char *target, unsigned int length)
{
    nvmlReturn_t code = outcome(value);
    if (code != SUCCESS)
        return code;
    if (strlen(value) >= length)
        return ERROR_INSUFFICIENT_SIZE;
    strcpy(target, value);
    return SUCCESS;
}

static nvmlReturn_t long_number(nvmlDevice_t device, const char *name, unsigned long long *value)
{
    const char *text = device_setting(device, name);
    nvmlReturn_t code = outcome(text);
    if (code == SUCCESS)
        *value = strtoull(text, NULL, 0);
    return code;
}

static nvmlReturn_t number(nvmlDevice_t device, const char *name, unsigned int *value)
{
    unsigned long long wide = 0;
    nvmlReturn_t code = long_number(device, name, &wide);
    if (code == SUCCESS)
        *value = (unsigned int)wide;
    return code;
}

unsigned int fake_nvml_sizeof(const char *name)
{
#define SIZE_OF(type)              \
    if (strcmp(name, #type) == 0) \
        return sizeof(type);
    SIZE_OF(nvmlPciInfo_t)
    SIZE_OF(nvmlMemory_t)
    SIZE_OF(nvmlMemory_v2_t)
    SIZE_OF(nvmlUtilization_t)
    SIZE_OF(nvmlProcessInfo_v2_t)
    SIZE_OF(nvmlValue_t)
    SIZE_OF(nvmlFieldValue_t)
    SIZE_OF(nvmlDeviceAttributes_t)
#undef SIZE_OF
    return 0;
}

unsigned int fake_nvml_memory_v2_version(void)
{
    return MEMORY_V2_VERSION;
}

/* The system. */

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    load_scenario();
    enter("nvmlInitWithFlags", -1);
    return atoi(setting("init"));
}

nvmlReturn_t nvmlShutdown(void)
{
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result)
{
    static char text[32];
    snprintf(text, sizeof text, "fake error %d", result);
    return text;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    enter(__func__, -1);
    return copy(setting("driver"), version, length);
}

/* Answers without an initialised library too. */
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    return copy(setting("nvml"), version, length);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    *version = atoi(setting("cuda"));
    return *version == 0 ? ERROR_NOT_SUPPORTED : SUCCESS;
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
    char full[64];
    enter(__func__, -1);
    snprintf(full, sizeof full, "process.%u", pid);
    const char *value = setting(full);
    return value[0] == '\0' ? ERROR_NOT_FOUND : copy(value, name, length);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    enter(__func__, -1);
    *count = (unsigned int)atoi(setting("count"));
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    if (index >= (unsigned int)atoi(setting("count")) || index >= MAX_CARDS)
        return ERROR_INVALID_ARGUMENT;
    enter(__func__, (int)index);
    *device = (nvmlDevice_t)&handles[index][0];
    return atoi(device_setting(*device, "handle"));
}

/* What a card is. */

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
    BEGIN(device, "name");
    return copy(device_setting(device, "name"), name, length);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
    BEGIN(device, "uuid");
    return copy(device_setting(device, "uuid"), uuid, length);
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length)
{
    BEGIN(device, "vbios");
    return copy(device_setting(device, "vbios"), version, length);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
    BEGIN(device, "minor");
    return number(device, "minor", minor);
}

static nvmlReturn_t fill_pci(const char *bus, nvmlPciInfo_t *pci)
{
    memset(pci, 0, sizeof *pci);
    nvmlReturn_t code = copy(bus, pci->busId, sizeof pci->busId);
    if (code)
        return code;
    sscanf(pci->busId, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0x1f);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    BEGIN(device, "pci");
    nvmlReturn_t code = fill_pci(device_setting(device, "bus"), pci);
    if (code == SUCCESS)
        pci->pciDeviceId = (unsigned int)strtoul(device_setting(device, "pci"), NULL, 16) << 16 | 0x10de;
    return code;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    BEGIN(device, "capability");
    return sscanf(device_setting(device, "capability"), "%d.%d", major, minor) == 2 ? SUCCESS : ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned int *mode)
{
    BEGIN(device, "persistence");
    return number(device, "persistence", mode);
}

nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, unsigned int *mode)
{
    BEGIN(device, "virtualization");
    return number(device, "virtualization", mode);
}

#ifndef NO_NUMA_NODE
nvmlReturn_t nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node)
{
    BEGIN(device, "numa_memory");
    return number(device, "numa_memory", node);
}
#endif

/* Memory. In version 1 what driver and firmware hold is part of "used". */

static unsigned long long bytes(nvmlDevice_t device, const char *name)
{
    return strtoull(device_setting(device, name), NULL, 10);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    nvmlReturn_t code = atoi(device_setting(device, "memory"));
    enter(__func__, card_of(device));
    if (code)
        return code;
    memory->total = bytes(device, "total");
    memory->free = bytes(device, "free");
    memory->used = bytes(device, "used") + bytes(device, "reserved");
    return SUCCESS;
}

#ifndef NO_MEMORY_V2 /* drivers before 510 do not export it */
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlReturn_t code = atoi(device_setting(device, "memory"));
    enter(__func__, card_of(device));
    if (code == 0)
        code = atoi(device_setting(device, "memory_v2"));
    if (code)
        return code;
    if (memory->version != MEMORY_V2_VERSION)
        return ERROR_ARGUMENT_VERSION_MISMATCH;
    memory->total = bytes(device, "total");
    memory->reserved = bytes(device, "reserved");
    memory->free = bytes(device, "free");
    memory->used = bytes(device, "used");
    return SUCCESS;
}
#endif

/* What changes. */

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius)
{
    BEGIN(device, "temperature");
    return sensor == 0 ? number(device, "temperature", celsius) : ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts)
{
    BEGIN(device, "power");
    return number(device, "power", milliwatts);
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *milliwatts)
{
    BEGIN(device, "power_limit");
    return number(device, "power_limit", milliwatts);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
    BEGIN(device, "utilization");
    utilization->memory = 0;
    return number(device, "utilization", &utilization->gpu);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned int *mhz)
{
    const char *name = type == 1 ? "clock.sm" : "clock.memory";
    if (type != 1 && type != 2)
        return ERROR_INVALID_ARGUMENT;
    BEGIN(device, name);
    return number(device, name, mhz);
}

#ifndef NO_EVENT_REASONS /* newer name of the next */
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons)
{
    BEGIN(device, "throttle");
    return long_number(device, "throttle", reasons);
}
#endif

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons)
{
    BEGIN(device, "throttle");
    return long_number(device, "throttle", reasons);
}

/* Faults. */

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, int type, int counter, int location,
                                             unsigned long long *count)
{
    static const char *const names[2][2] = {{"ecc.corrected", "ecc.corrected_total"},
                                            {"ecc.uncorrected", "ecc.uncorrected_total"}};
    if (type < 0 || type > 1 || counter < 0 || counter > 1 || location != 2)
        return ERROR_INVALID_ARGUMENT;
    BEGIN(device, names[type][counter]);
    return long_number(device, names[type][counter], count);
}

#ifndef NO_REMAPPED_ROWS /* drivers before Ampere's do not export it */
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected,
                                       unsigned int *pending, unsigned int *failed)
{
    BEGIN(device, "remapped");
    const char *value = device_setting(device, "remapped");
    if (outcome(value) != SUCCESS)
        return outcome(value);
    return sscanf(value, "%u,%u,%u,%u", corrected, uncorrected, pending, failed) == 4 ? SUCCESS
                                                                                     : ERROR_INVALID_ARGUMENT;
}
#endif

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, int cause, unsigned int *count,
                                       unsigned long long *addresses)
{
    const char *name = cause == 0 ? "retired.sbe" : "retired.dbe";
    unsigned int pages = 0;
    BEGIN(device, name);
    nvmlReturn_t code = number(device, name, &pages);
    if (code != SUCCESS)
        return code;
    unsigned int room = *count;
    *count = pages;
    if (addresses == NULL || room < pages)
        return pages == 0 ? SUCCESS : ERROR_INSUFFICIENT_SIZE;
    for (unsigned int page = 0; page < pages; page++)
        addresses[page] = 0x1000ULL * page;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, unsigned int *pending)
{
    BEGIN(device, "retired.pending");
    return number(device, "retired.pending", pending);
}

#ifndef NO_FIELD_VALUES
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    BEGIN(device, "fields");
    for (int place = 0; place < count; place++) {
        nvmlFieldValue_t *value = &values[place];
        value->valueType = 1;
        value->nvmlReturn = ERROR_NOT_SUPPORTED;
        if (value->fieldId == FIELD_RECOVERY_ACTION)
            value->nvmlReturn = number(device, "recovery", &value->value.uiVal);
    }
    return SUCCESS;
}
#endif

/* Links. */

static nvmlReturn_t link_setting(nvmlDevice_t device, unsigned int link, const char *name, const char **value)
{
    char full[64];
    int count = atoi(device_setting(device, "nvlink.count"));
    if (count == 0)
        return ERROR_NOT_SUPPORTED;
    if (link >= (unsigned int)count)
        return ERROR_INVALID_ARGUMENT;
    snprintf(full, sizeof full, "nvlink.%u.%s", link, name);
    *value = device_setting(device, full);
    if (*value[0] == '\0') {
        snprintf(full, sizeof full, "nvlink.%s", name);
        *value = device_setting(device, full);
    }
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, unsigned int *active)
{
    const char *value;
    BEGIN(device, "nvlink");
    nvmlReturn_t code = link_setting(device, link, "state", &value);
    if (code == SUCCESS)
        *active = value[0] == '\0' ? 1 : (unsigned int)atoi(value);
    return code;
}

#ifndef NO_LINK_DEVICE_TYPE
nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, unsigned int *type)
{
    const char *value;
    BEGIN(device, "nvlink.type");
    nvmlReturn_t code = link_setting(device, link, "peer", &value);
    if (code == SUCCESS)
        *type = strcmp(value, "switch") == 0 ? 2 : 0;
    return code;
}
#endif

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci)
{
    const char *value;
    BEGIN(device, "nvlink.pci");
    nvmlReturn_t code = link_setting(device, link, "peer", &value);
    if (code != SUCCESS)
        return code;
    return fill_pci(strcmp(value, "switch") == 0 ? "00000000:05:00.0" : value, pci);
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second, unsigned int *level)
{
    char full[64];
    enter(__func__, card_of(first));
    snprintf(full, sizeof full, "topology.%d.%d", card_of(first), card_of(second));
    const char *value = setting(full);
    if (value[0] == '\0')
        value = setting("topology");
    nvmlReturn_t code = outcome(value);
    if (code == SUCCESS)
        *level = (unsigned int)atoi(value);
    return code;
}

/* Processes. */

static nvmlReturn_t fill_processes(const char *list, unsigned int *count, nvmlProcessInfo_v2_t *processes)
{
    unsigned int room = *count, found = 0;
    for (const char *entry = list; *entry != '\0'; entry += strcspn(entry, ","), entry += *entry == ',') {
        long long used = -1;
        unsigned int pid = 0, instance = 0xFFFFFFFF;
        sscanf(entry, "%u:%lld:%u", &pid, &used, &instance);
        if (processes != NULL && found < room) {
            processes[found].pid = pid;
            processes[found].usedGpuMemory = (unsigned long long)used;
            processes[found].gpuInstanceId = instance;
            processes[found].computeInstanceId = instance == 0xFFFFFFFF ? instance : 0;
        }
        found++;
    }
    *count = found;
    return found > room ? ERROR_INSUFFICIENT_SIZE : SUCCESS;
}

#ifndef NO_PROCESSES_V3 /* drivers before 510 export the second version */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_v2_t *processes)
{
    BEGIN(device, "processes");
    return fill_processes(device_setting(device, "processes"), count, processes);
}
#endif

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_v2_t *processes)
{
    BEGIN(device, "processes");
    return fill_processes(device_setting(device, "processes"), count, processes);
}

/* Instances of a partitioned card. */

#ifndef NO_MIG /* nor these */
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    BEGIN(device, "mig");
    nvmlReturn_t code = number(device, "mig", current);
    if (code == SUCCESS && number(device, "mig.pending", pending) != SUCCESS)
        *pending = *current;
    return code;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
    BEGIN(device, "mig.max");
    *count = 0; /* as on a card that cannot be partitioned */
    number(device, "mig.max", count);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *instance)
{
    enter(__func__, card_of(device));
    if (index >= MAX_INSTANCES)
        return ERROR_INVALID_ARGUMENT;
    *instance = (nvmlDevice_t)((char *)device + 1 + index);
    const char *code = device_setting(*instance, "handle");
    if (code[0] != '\0')
        return atoi(code);
    return device_setting(*instance, "uuid")[0] == '\0' ? ERROR_NOT_FOUND : SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
    BEGIN(device, "gi");
    return number(device, "gi", id);
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
    BEGIN(device, "ci");
    return number(device, "ci", id);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    BEGIN(device, "attributes");
    memset(attributes, 0, sizeof *attributes);
    nvmlReturn_t code = long_number(device, "size_mb", &attributes->memorySizeMB);
    if (code == SUCCESS) {
        number(device, "multiprocessors", &attributes->multiprocessorCount);
        number(device, "gi_slices", &attributes->gpuInstanceSliceCount);
        number(device, "ci_slices", &attributes->computeInstanceSliceCount);
    }
    return code;
}
#endif
