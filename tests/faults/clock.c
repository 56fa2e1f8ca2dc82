/* A clock that is wrong as $CLOCK_FILE says, which may be rewritten meanwhile: two doubles, by how many seconds the time of day
   is ahead, and by which share of the time since the start of the host it gains. Nothing else is touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int real(clockid_t clock, struct timespec *at)
{
    static int (*found)(clockid_t, struct timespec *);
    if (!found)
        found = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return found(clock, at);
}

static long long off_ns(void)
{
    static const volatile double *wrong;
    struct timespec up;
    if (!wrong) {
        int file = open(getenv("CLOCK_FILE"), O_RDONLY);
        wrong = mmap(NULL, 2 * sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    }
    real(CLOCK_MONOTONIC, &up);
    return (long long)((wrong[0] + wrong[1] * (up.tv_sec + up.tv_nsec / 1e9)) * 1e9);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        long long ns = at->tv_sec * 1000000000LL + at->tv_nsec + off_ns();
        at->tv_sec = ns / 1000000000LL;
        at->tv_nsec = ns % 1000000000LL;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
