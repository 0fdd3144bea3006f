/* A libnvidia-ml.so.1 with one card that has another minor than its index, and one MIG slice. Its layouts are written
   out here again, as nvml.h has them, so that the Python side is compared with C and not with itself. */
#include <string.h>
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
typedef struct { unsigned pid; unsigned long long time; unsigned sm, mem, enc, dec; } sample_t;
typedef struct { unsigned gpu, memory; } utilisation_t;
static int card, slice;
static unsigned initialised;
static int lost, divided, no_samples;
void made_up_set(int is_lost, int is_divided, int has_no_samples) { lost = is_lost; divided = is_divided; no_samples = has_no_samples; }
const char *nvmlErrorString(int status) { return status == 15 ? "GPU is lost" : "Not Found"; }
int nvmlInit_v2(void) { initialised++; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return initialised ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &card; return index ? 6 : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (!strcmp(uuid, "GPU-one")) *device = &card;
    else if (!strcmp(uuid, "MIG-one")) *device = &slice;
    else return 6;
    return lost ? 15 : 0;
}
int nvmlDeviceGetIndex(void *device, unsigned *index) { *index = 0; return device != &card; }
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = 5; return device != &card; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { strncpy(name, "Made Up", length); return 0; }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    strncpy(uuid, device == &card ? "GPU-one" : "MIG-one", length);
    return 0;
}
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
    memset(pci, 0xff, sizeof *pci);
    strcpy(pci->bus_id, "00000001:3B:00.0");
    return device != &card;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = device == &card ? 1ull << 40 : 1ull << 33;
    memory->free = 3;
    memory->used = 1ull << 34;
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *found) {
    if (device == &slice) { *count = 0; return 0; }
    if (*count < 2) { *count = 2; return 7; }
    *count = 2;
    found[0] = (process_t){41, 1ull << 35, 1, 2};
    found[1] = (process_t){42, ~0ull, 0, 0};
    return 0;
}
int nvmlDeviceGetProcessUtilization(void *device, sample_t *found, unsigned *count, unsigned long long since) {
    if (device == &slice) return 3;
    if (no_samples) return 6;
    if (!found || *count < 3) { *count = 3; return 7; }
    *count = 3;
    found[0] = (sample_t){41, since + 1, 30, 1, 0, 0};
    found[1] = (sample_t){42, since + 1, 0, 1, 0, 0};
    found[2] = (sample_t){43, since - 1, 30, 1, 0, 0};
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilisation_t *found) {
    if (device == &slice) return 3;
    *found = (utilisation_t){12, 0};
    return 0;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **whole) { *whole = &card; return device == &slice ? 0 : 2; }
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { *count = 7; return divided ? 0 : 3; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **found) { *found = &slice; return index == 2 ? 0 : 6; }
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) { *id = 3; return device != &slice; }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id) { *id = 1; return device != &slice; }
