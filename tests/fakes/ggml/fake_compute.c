/* A backend that breaks while it computes, for llama.cpp's own fatal codes: loaded before llama.cpp (LD_PRELOAD), in
 * the place of one of its functions (ggml-backend.h of llama.cpp). While the file that R1BOX_FAKE_COMPUTE names is
 * there, a graph is not computed and its one character says with which ggml_status: 'f' FAILED (-1), 'm' ALLOC_FAILED (-2). */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*compute)(void *scheduler, void *graph);

int ggml_backend_sched_graph_compute_async(void *scheduler, void *graph);

int ggml_backend_sched_graph_compute_async(void *scheduler, void *graph)
{
    const char *path = getenv("R1BOX_FAKE_COMPUTE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file != NULL) {
        int how = fgetc(file);
        fclose(file);
        return how == 'm' ? -2 : -1;
    }
    /* The library was loaded for Python alone: it is not among those that RTLD_NEXT looks through. */
    void *library = dlopen("libggml-base.so.0", RTLD_LAZY | RTLD_NOLOAD);
    compute real = library ? (compute)dlsym(library, "ggml_backend_sched_graph_compute_async") : NULL;
    return real ? real(scheduler, graph) : -1;
}
