/* A loadable backend of llama.cpp with cards that have memory of their own, for laying out models without computing.
 *
 * As fake_cuda.c its devices are copies of ggml's processor device under CUDA's names, but each has a buffer type of its
 * own that is not the host's, and a pinned host buffer type (CUDA_Host): llama.cpp then splits graph and buffers over
 * devices and host as it does with real cards. Layouts are those of ggml-backend-impl.h (ggml 0.25, API version 2).
 * FAKE_CARDS (or GGML_FAKE_CARDS, which the daemon hands on to its workers) is the number of devices; with
 * FAKE_CARDS_ASYNC set they say that they can compute asynchronously and have events, as CUDA's do and CANN's do not:
 * then llama.cpp lays out for pipeline parallelism. FAKE_CARDS_CRASH aborts when a backend is made, FAKE_CARDS_HANG
 * waits there for ever. FAKE_CARDS_OFFLOAD: see offload_op.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GET_NAME, GET_DESCRIPTION, GET_MEMORY, GET_TYPE, GET_PROPS, INIT_BACKEND, GET_BUFFER_TYPE, GET_HOST_BUFFER_TYPE };
enum { FROM_HOST_POINTER = 8, SUPPORTS_OP, SUPPORTS_BUFFER_TYPE, OFFLOAD_OP, DEVICE_CALLS = 15 };
enum { NAME_OF_TYPE, ALLOCATE, ALIGNMENT, MOST_BYTES, BYTES_OF_TENSOR, IS_HOST, TYPE_CALLS };
enum { BACKEND_CALLS = 16, BUFFER_CALLS = 11, TYPE_GPU = 1, MOST_DEVICES = 8 };

struct device { void *calls[DEVICE_CALLS]; void *reg; void *context; };
struct buffer_type { void *calls[TYPE_CALLS]; struct device *device; void *context; };
struct buffer { void *calls[BUFFER_CALLS]; struct buffer_type *type; void *context; size_t size; };
struct backend { void *guid; void *calls[BACKEND_CALLS]; struct device *device; void *context; };
struct reg { int api_version; void *calls[4]; void *context; };
struct tensor { int type; void *buffer; int64_t ne[4]; size_t nb[4]; int op; };
struct props {
    const char *name, *description;
    size_t memory_free, memory_total;
    int type;
    const char *device_id;
    bool async, host_buffer, from_host_pointer, events, mmap_support;
};

extern struct reg *ggml_backend_cpu_reg(void);
extern const char *ggml_op_name(int op);
extern struct device *ggml_backend_reg_dev_get(struct reg *, size_t);

static struct device devices[MOST_DEVICES], cpu;
static struct buffer_type *plain, types[MOST_DEVICES], host_type;
static struct reg own;
static char names[MOST_DEVICES][8], addresses[MOST_DEVICES][16];
static const size_t memory_bytes = (size_t)80 << 30;

static int number(const struct device *device) { return (int)(device - devices); }
static const char *get_name(struct device *device) { return names[number(device)]; }
static const char *get_description(struct device *device) { (void)device; return "Fake card"; }
static int get_type(struct device *device) { (void)device; return TYPE_GPU; }
static void get_memory(struct device *device, size_t *free_bytes, size_t *total)
{
    (void)device;
    *free_bytes = *total = memory_bytes;
}

static void get_props(struct device *device, struct props *props)
{
    bool async = getenv("FAKE_CARDS_ASYNC") != NULL;
    memset(props, 0, sizeof *props);
    props->name = get_name(device);
    props->description = get_description(device);
    props->memory_free = props->memory_total = memory_bytes;
    props->type = TYPE_GPU;
    props->device_id = addresses[number(device)];
    props->async = props->events = async;
    props->host_buffer = true;
}

static struct backend *init_backend(struct device *device, const char *params)
{
    struct backend *backend;
    if (getenv("FAKE_CARDS_CRASH") != NULL) abort();
    if (getenv("FAKE_CARDS_HANG") != NULL) for (;;) pause();
    backend = ((struct backend * (*)(struct device *, const char *)) cpu.calls[INIT_BACKEND])(device, params);
    if (backend != NULL) backend->device = device;
    return backend;
}

static struct buffer_type *get_buffer_type(struct device *device) { return &types[number(device)]; }
static struct buffer_type *get_host_buffer_type(struct device *device) { (void)device; return &host_type; }

static bool supports_op(struct device *device, const void *op) { (void)device; (void)op; return true; }
static bool supports_buffer_type(struct device *device, const struct buffer_type *type)
{
    return type == &types[number(device)];
}

/* As CUDA's: with FAKE_CARDS_OFFLOAD weights in the host's memory are copied to the card for 32 tokens and more. */
static bool offload_op(struct device *device, const void *op)
{
    const struct tensor *tensor = op;
    const char *name = ggml_op_name(tensor->op);
    (void)device;
    if (getenv("FAKE_CARDS_OFFLOAD") == NULL || strcmp(name, "GET_ROWS") == 0) return false;
    return tensor->ne[strcmp(name, "MUL_MAT_ID") == 0 ? 2 : 1] >= 32;
}

static const char *name_of_type(struct buffer_type *type)
{
    return type == &host_type ? "CUDA_Host" : names[number(type->device)];
}

static struct buffer *allocate(struct buffer_type *type, size_t size)
{
    struct buffer *buffer = ((struct buffer * (*)(struct buffer_type *, size_t)) plain->calls[ALLOCATE])(plain, size);
    if (buffer != NULL) buffer->type = type;
    return buffer;
}

static bool is_host(struct buffer_type *type) { return type == &host_type; }

static const char *reg_name(struct reg *reg) { (void)reg; return "CUDA"; }
static size_t reg_count(struct reg *reg)
{
    const char *count = getenv("FAKE_CARDS");
    (void)reg;
    if (count == NULL) count = getenv("GGML_FAKE_CARDS");
    return count == NULL ? 0 : (size_t)atoi(count);
}
static struct device *reg_device(struct reg *reg, size_t index) { (void)reg; return &devices[index]; }
static void *reg_address(struct reg *reg, const char *name) { (void)reg; (void)name; return NULL; }

int ggml_backend_score(void) { return 1; }

static void fill(struct buffer_type *type, struct device *device)
{
    *type = *plain;
    type->device = device;
    type->calls[NAME_OF_TYPE] = (void *)name_of_type;
    type->calls[ALLOCATE] = (void *)allocate;
    type->calls[IS_HOST] = (void *)is_host;
}

struct reg *ggml_backend_init(void)
{
    struct reg *real = ggml_backend_cpu_reg();
    cpu = *ggml_backend_reg_dev_get(real, 0);
    plain = ((struct buffer_type * (*)(struct device *)) cpu.calls[GET_BUFFER_TYPE])(&cpu);
    own.api_version = real->api_version;
    own.calls[0] = (void *)reg_name;
    own.calls[1] = (void *)reg_count;
    own.calls[2] = (void *)reg_device;
    own.calls[3] = (void *)reg_address;
    for (int index = 0; index < MOST_DEVICES; index++) {
        memcpy(names[index], "CUDA0", 6);
        names[index][4] = (char)('0' + index);
        memcpy(addresses[index], "0000:01:00.0", 13);
        addresses[index][6] = (char)('1' + index);
        devices[index] = cpu;
        devices[index].reg = &own;
        devices[index].calls[GET_NAME] = (void *)get_name;
        devices[index].calls[GET_DESCRIPTION] = (void *)get_description;
        devices[index].calls[GET_MEMORY] = (void *)get_memory;
        devices[index].calls[GET_TYPE] = (void *)get_type;
        devices[index].calls[GET_PROPS] = (void *)get_props;
        devices[index].calls[INIT_BACKEND] = (void *)init_backend;
        devices[index].calls[GET_BUFFER_TYPE] = (void *)get_buffer_type;
        devices[index].calls[GET_HOST_BUFFER_TYPE] = (void *)get_host_buffer_type;
        devices[index].calls[FROM_HOST_POINTER] = NULL;
        devices[index].calls[SUPPORTS_OP] = (void *)supports_op;
        devices[index].calls[SUPPORTS_BUFFER_TYPE] = (void *)supports_buffer_type;
        devices[index].calls[OFFLOAD_OP] = (void *)offload_op;
        fill(&types[index], &devices[index]);
    }
    fill(&host_type, &devices[0]);
    return &own;
}
