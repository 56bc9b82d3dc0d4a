/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1 that answers from a scenario file.
 *
 * The structs and prototypes follow the layout that NVIDIA's nvml.h documents and are written here on their own, so
 * that a mistake in the Python binding cannot hide: their sizes are asserted here and compared by a test.
 *
 * The scenario is the file named by FAKE_NVML_SCENARIO, or "fake_nvml.scenario" beside this library. One setting a
 * line, "name=value"; settings of a card begin with its number:
 *
 *     init=9                     return code of nvmlInitWithFlags (default 0)
 *     driver=550.54.15           driver version
 *     cuda=12040                 CUDA version of the driver
 *     count=2                    number of cards
 *     0.handle=15                return code for the handle of card 0
 *     0.name=NVIDIA L20          0.uuid=GPU-...          0.bus=00000000:01:00.0     0.pci=26ba
 *     0.total=.. 0.free=.. 0.used=.. 0.reserved=..       memory in bytes
 *     0.memory=3                 return code of both memory calls;  0.memory_v2=3 of the second version alone
 *     0.capability=8.9           0.temperature=41        0.power=72000 (mW)         0.utilization=12
 *     0.temperature.code=3       return code of that call, likewise power, utilization, capability, name, uuid, pci
 *     hang=nvmlDeviceGetName:1   this call never returns (for card 1; without ":n" for any)
 *     crash=nvmlInitWithFlags    this call ends the process by SIGSEGV
 *     chatter=1                  print to standard output, as some builds of the library do
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

_Static_assert(sizeof(nvmlPciInfo_t) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(nvmlMemory_t) == 24, "nvmlMemory_t");
_Static_assert(sizeof(nvmlMemory_v2_t) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(nvmlUtilization_t) == 8, "nvmlUtilization_t");

#define MEMORY_V2_VERSION ((unsigned int)(sizeof(nvmlMemory_v2_t) | (2U << 24)))
#define MAX_CARDS 16

static char scenario[65536];
static char cards[MAX_CARDS]; /* a handle is the address of its card's byte */

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

/* Value of a setting, "" when it is not in the scenario. */
static const char *setting(const char *name)
{
    static char value[256];
    char wanted[128];
    snprintf(wanted, sizeof wanted, "\n%s=", name);
    const char *found = strstr(scenario, wanted);
    value[0] = '\0';
    if (found != NULL) {
        found += strlen(wanted);
        snprintf(value, sizeof value, "%.*s", (int)strcspn(found, "\n"), found);
    }
    return value;
}

static const char *card_setting(int card, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%d.%s", card, name);
    return setting(full);
}

static nvmlReturn_t card_code(int card, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.code", name);
    return atoi(card_setting(card, full));
}

static int card_of(nvmlDevice_t device)
{
    return (int)((char *)device - cards);
}

/* Misbehave when the scenario says so for this call. */
static void enter(const char *call, int card)
{
    char with_card[128];
    snprintf(with_card, sizeof with_card, "%s:%d", call, card);
    const char *hang = setting("hang");
    if (strcmp(hang, call) == 0 || strcmp(hang, with_card) == 0)
        for (;;)
            pause();
    const char *crash = setting("crash");
    if (strcmp(crash, call) == 0 || strcmp(crash, with_card) == 0)
        raise(SIGSEGV);
    if (atoi(setting("chatter"))) {
        printf("fake NVML: %s\n", call);
        fflush(stdout);
    }
}

static nvmlReturn_t copy(const char *value, char *target, unsigned int length)
{
    if (value[0] == '\0')
        return ERROR_NOT_SUPPORTED;
    if (strlen(value) >= length)
        return ERROR_INSUFFICIENT_SIZE;
    strcpy(target, value);
    return SUCCESS;
}

unsigned int fake_nvml_sizeof(const char *name)
{
    if (strcmp(name, "nvmlPciInfo_t") == 0)
        return sizeof(nvmlPciInfo_t);
    if (strcmp(name, "nvmlMemory_t") == 0)
        return sizeof(nvmlMemory_t);
    if (strcmp(name, "nvmlMemory_v2_t") == 0)
        return sizeof(nvmlMemory_v2_t);
    if (strcmp(name, "nvmlUtilization_t") == 0)
        return sizeof(nvmlUtilization_t);
    return 0;
}

unsigned int fake_nvml_memory_v2_version(void)
{
    return MEMORY_V2_VERSION;
}

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
    enter("nvmlSystemGetDriverVersion", -1);
    return copy(setting("driver"), version, length);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    *version = atoi(setting("cuda"));
    return *version == 0 ? ERROR_NOT_SUPPORTED : SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    *count = (unsigned int)atoi(setting("count"));
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    if (index >= (unsigned int)atoi(setting("count")) || index >= MAX_CARDS)
        return ERROR_INVALID_ARGUMENT;
    enter("nvmlDeviceGetHandleByIndex_v2", (int)index);
    *device = (nvmlDevice_t)(cards + index);
    return atoi(card_setting((int)index, "handle"));
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
    int card = card_of(device), code = card_code(card, "name");
    enter("nvmlDeviceGetName", card);
    return code ? code : copy(card_setting(card, "name"), name, length);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
    int card = card_of(device), code = card_code(card, "uuid");
    return code ? code : copy(card_setting(card, "uuid"), uuid, length);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    int card = card_of(device), code = card_code(card, "pci");
    if (code)
        return code;
    memset(pci, 0, sizeof *pci);
    code = copy(card_setting(card, "bus"), pci->busId, sizeof pci->busId);
    if (code)
        return code;
    sscanf(pci->busId, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0x1f);
    pci->pciDeviceId = (unsigned int)strtoul(card_setting(card, "pci"), NULL, 16) << 16 | 0x10de;
    return SUCCESS;
}

static unsigned long long bytes(int card, const char *name)
{
    return strtoull(card_setting(card, name), NULL, 10);
}

/* In version 1 what driver and firmware hold is part of "used". */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    int card = card_of(device), code = atoi(card_setting(card, "memory"));
    if (code)
        return code;
    memory->total = bytes(card, "total");
    memory->free = bytes(card, "free");
    memory->used = bytes(card, "used") + bytes(card, "reserved");
    return SUCCESS;
}

#ifndef NO_MEMORY_V2 /* drivers before 510 do not export it */
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    int card = card_of(device), code = atoi(card_setting(card, "memory"));
    enter("nvmlDeviceGetMemoryInfo_v2", card);
    if (code == 0)
        code = atoi(card_setting(card, "memory_v2"));
    if (code)
        return code;
    if (memory->version != MEMORY_V2_VERSION)
        return ERROR_ARGUMENT_VERSION_MISMATCH;
    memory->total = bytes(card, "total");
    memory->reserved = bytes(card, "reserved");
    memory->free = bytes(card, "free");
    memory->used = bytes(card, "used");
    return SUCCESS;
}
#endif

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    int card = card_of(device), code = card_code(card, "capability");
    if (code)
        return code;
    return sscanf(card_setting(card, "capability"), "%d.%d", major, minor) == 2 ? SUCCESS : ERROR_NOT_SUPPORTED;
}

static nvmlReturn_t number(nvmlDevice_t device, const char *name, unsigned int *value)
{
    int card = card_of(device), code = card_code(card, name);
    if (code)
        return code;
    return sscanf(card_setting(card, name), "%u", value) == 1 ? SUCCESS : ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius)
{
    return sensor == 0 ? number(device, "temperature", celsius) : ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts)
{
    return number(device, "power", milliwatts);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
    utilization->memory = 0;
    return number(device, "utilization", &utilization->gpu);
}
