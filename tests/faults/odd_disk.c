/* Makes every disk odd, for a process that has LD_PRELOAD of it (test_odd_disks.py compiles and loads it):
   NO_DIR_FSYNC=ERRNO: fsync() of a folder fails, as with EINVAL on CIFS, VirtualBox and WSL shares;
   NO_FILE_FSYNC=ERRNO: fsync() of a file fails, as on a disk that is gone;
   NO_FLOCK=ERRNO: flock() fails, as with ENOLCK or EOPNOTSUPP on some NFS and Lustre. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

int fsync(int fd) {
    static int (*real)(int);
    struct stat s;
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    const char *wrong = fstat(fd, &s) ? 0 : getenv(S_ISDIR(s.st_mode) ? "NO_DIR_FSYNC" : "NO_FILE_FSYNC");
    if (wrong) { errno = atoi(wrong); return -1; }
    return real(fd);
}

int flock(int fd, int operation) {
    static int (*real)(int, int);
    if (!real) real = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    if (getenv("NO_FLOCK")) { errno = atoi(getenv("NO_FLOCK")); return -1; }
    return real(fd, operation);
}
