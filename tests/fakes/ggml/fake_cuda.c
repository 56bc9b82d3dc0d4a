/* A loadable backend of llama.cpp that calls itself CUDA and computes on the processor.
 *
 * Its devices are copies of ggml's processor device with another name, type and PCI address, so that everything a GPU
 * backend goes through is real: loading, registry, buffers, graph. The layouts are those of ggml-backend-impl.h
 * (ggml 0.25, API version 2). FAKE_GPU says what goes wrong: load_crash, load_hang, no_backend, no_f16, no_q8_0, wrong,
 * nan, status, hang or crash, with "@1" behind it on the second device alone. FAKE_GPU_COUNT is the number of devices.
 */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GET_NAME, GET_DESCRIPTION, GET_MEMORY, GET_TYPE, GET_PROPS, INIT_BACKEND, SUPPORTS_OP = 9, DEVICE_CALLS = 15 };
enum { GRAPH_COMPUTE = 12, BACKEND_CALLS = 16 };
enum { SOURCES = 152 }; /* of struct ggml_tensor: type, buffer, ne[4], nb[4], op, op_params[16], flags, then src */
enum { TYPE_GPU = 1, FORMAT_F16 = 1, FORMAT_Q8_0 = 8, MOST_DEVICES = 2 };

struct device { void *calls[DEVICE_CALLS]; void *reg; void *context; };
struct reg { int api_version; void *calls[4]; void *context; };
struct backend { void *guid; void *calls[BACKEND_CALLS]; struct device *device; void *context; };
struct props {
    const char *name, *description;
    size_t memory_free, memory_total;
    int type;
    const char *device_id;
    bool caps[5];
};

extern struct reg *ggml_backend_cpu_reg(void);
extern struct device *ggml_backend_reg_dev_get(struct reg *, size_t);
extern void *ggml_graph_node(void *graph, int index);
extern void ggml_backend_tensor_set(void *tensor, const void *data, size_t offset, size_t size);

static struct device devices[MOST_DEVICES], cpu;
static struct reg own;
static const char *const names[MOST_DEVICES] = {"CUDA0", "CUDA1"};
static const char *const addresses[MOST_DEVICES] = {"0000:01:00.0", "0000:02:00.0"};
static int (*cpu_compute)(struct backend *, void *);
static int computing;

static int number(const struct device *device) { return (int)(device - devices); }

static bool does(const char *word, int device)
{
    const char *asked = getenv("FAKE_GPU");
    size_t length = strlen(word);
    if (asked == NULL || strncmp(asked, word, length) != 0) return false;
    return asked[length] == '\0' || (asked[length] == '@' && atoi(asked + length + 1) == device);
}

static void stop(const char *how, int device)
{
    char word[32];
    snprintf(word, sizeof word, "%shang", how);
    if (does(word, device)) for (;;) pause();
    snprintf(word, sizeof word, "%scrash", how);
    if (!does(word, device)) return;
    fprintf(stderr, "some progress\nfake CUDA error: an illegal memory access was encountered\n  in a line of source\n");
    abort();
}

__attribute__((constructor)) static void loaded(void) { stop("load_", 0); }

static const char *get_name(struct device *device) { return names[number(device)]; }
static const char *get_description(struct device *device) { (void)device; return "Fake L20"; }
static int get_type(struct device *device) { (void)device; return TYPE_GPU; }

static void get_props(struct device *device, struct props *props)
{
    ((void (*)(struct device *, struct props *))cpu.calls[GET_PROPS])(device, props);
    props->name = get_name(device);
    props->description = get_description(device);
    props->type = TYPE_GPU;
    props->device_id = addresses[number(device)];
}

static int compute(struct backend *backend, void *graph)
{
    float bad[16] = {0};
    int status;
    stop("", computing);
    if (does("status", computing)) return -1;
    status = cpu_compute(backend, graph);
    if (does("nan", computing)) bad[0] = NAN;
    if (does("wrong", computing) || does("nan", computing))
        ggml_backend_tensor_set(ggml_graph_node(graph, -1), bad, 0, sizeof bad);
    return status;
}

static struct backend *init_backend(struct device *device, const char *params)
{
    struct backend *backend;
    computing = number(device);
    if (does("no_backend", computing)) return NULL;
    backend = ((struct backend * (*)(struct device *, const char *)) cpu.calls[INIT_BACKEND])(device, params);
    cpu_compute = (int (*)(struct backend *, void *))backend->calls[GRAPH_COMPUTE];
    backend->calls[GRAPH_COMPUTE] = (void *)compute;
    return backend;
}

static bool supports_op(struct device *device, const void *op)
{
    /* A tensor begins with its type. */
    int format = **(const int *const *)((const char *)op + SOURCES);
    if (does("no_f16", number(device)) && format == FORMAT_F16) return false;
    if (does("no_q8_0", number(device)) && format == FORMAT_Q8_0) return false;
    return ((bool (*)(struct device *, const void *))cpu.calls[SUPPORTS_OP])(device, op);
}

static const char *reg_name(struct reg *reg) { (void)reg; return "CUDA"; }
static size_t reg_count(struct reg *reg)
{
    const char *count = getenv("FAKE_GPU_COUNT");
    (void)reg;
    return count == NULL ? 1 : (size_t)atoi(count);
}
static struct device *reg_device(struct reg *reg, size_t index) { (void)reg; return &devices[index]; }
static void *reg_address(struct reg *reg, const char *name) { (void)reg; (void)name; return NULL; }

int ggml_backend_score(void) { return 1; }

struct reg *ggml_backend_init(void)
{
    struct reg *real = ggml_backend_cpu_reg();
    cpu = *ggml_backend_reg_dev_get(real, 0);
    own.api_version = real->api_version;
    own.calls[0] = (void *)reg_name;
    own.calls[1] = (void *)reg_count;
    own.calls[2] = (void *)reg_device;
    own.calls[3] = (void *)reg_address;
    for (int index = 0; index < MOST_DEVICES; index++) {
        devices[index] = cpu;
        devices[index].reg = &own;
        devices[index].calls[GET_NAME] = (void *)get_name;
        devices[index].calls[GET_DESCRIPTION] = (void *)get_description;
        devices[index].calls[GET_TYPE] = (void *)get_type;
        devices[index].calls[GET_PROPS] = (void *)get_props;
        devices[index].calls[INIT_BACKEND] = (void *)init_backend;
        devices[index].calls[SUPPORTS_OP] = (void *)supports_op;
    }
    return &own;
}
