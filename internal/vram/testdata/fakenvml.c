// A test double of libnvidia-ml.so.1: one GPU of 1000 MiB, of which 400 are used, 300 of
// them by the process in FAKE_NVML_PID; with FAKE_NVML_XID=N the first wait for an event
// returns XID N. It has only the oldest functions: the newer ones are missing on purpose.
// Layouts follow nvml.h.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID = 2, TIMEOUT = 10 };
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int pid; unsigned long long used; } process;
typedef struct { void *device; unsigned long long type, data; unsigned int gi, ci; } event;
typedef struct { char legacy[16]; unsigned int domain, bus, device, id, subsystem; char bus_id[32]; } pci;

static int device, told;

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char *s, unsigned int n) { strncpy(s, "450.80", n); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 1; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) { *d = &device; return i == 0 ? SUCCESS : INVALID; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned int n) { strncpy(s, "GPU-fake", n); return SUCCESS; }
int nvmlDeviceGetName(void *d, char *s, unsigned int n) { strncpy(s, "Fake 1000", n); return SUCCESS; }
int nvmlDeviceGetPciInfo_v3(void *d, pci *p) { memset(p, 0, sizeof *p); p->bus = 0x3b; return SUCCESS; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
  m->total = 1000ULL << 20; m->used = 400ULL << 20; m->free = 600ULL << 20;
  return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses(void *d, unsigned int *n, process *p) {
  const char *pid = getenv("FAKE_NVML_PID");
  if (!pid || *n < 1) { *n = 0; return SUCCESS; }
  *n = 1;
  p->pid = strcmp(pid, "self") ? atoi(pid) : getpid();
  p->used = 300ULL << 20;
  return SUCCESS;
}
int nvmlEventSetCreate(void **s) { *s = &told; return SUCCESS; }
int nvmlEventSetFree(void *s) { return SUCCESS; }
int nvmlDeviceRegisterEvents(void *d, unsigned long long types, void *s) { return SUCCESS; }
int nvmlEventSetWait_v2(void *s, event *e, unsigned int ms) {
  const char *xid = getenv("FAKE_NVML_XID");
  if (xid && !told) {
    told = 1;
    memset(e, 0, sizeof *e);
    e->device = &device; e->type = 8; e->data = strtoull(xid, 0, 10);
    return SUCCESS;
  }
  usleep(ms * 1000);
  return TIMEOUT;
}
