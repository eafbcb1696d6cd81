/* What would a store do on a disk whose flush takes longer than this one's? Loaded before the C
   library (LD_PRELOAD), this adds FLUSH_MS to each flush that succeeds. Nothing else is changed, and
   it takes no CPU. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int later(int result) {
    double ms = atof(getenv("FLUSH_MS"));
    struct timespec wait = { (time_t)(ms / 1000), (long)(ms * 1e6) % 1000000000 };
    if (result == 0)
        while (nanosleep(&wait, &wait) && errno == EINTR) {}
    return result;
}

int fdatasync(int fd) { return later(((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd)); }
int fsync(int fd) { return later(((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd)); }
