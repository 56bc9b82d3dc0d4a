/* Stands in for libcuda.so.1, of which detection only asks whether it can be loaded. */
int cuDriverGetVersion(int *version);

int cuDriverGetVersion(int *version)
{
    *version = 12040;
    return 0;
}
