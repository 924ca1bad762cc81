/* LD_PRELOAD library: counts the system calls that change files below a folder. Before the call of a given number it
 * kills the process (of a write, after half of its bytes), or it lets that call fail, or that one and all later ones
 * that need space. struct control is shared with injection.py and with all processes that inherit the environment. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define ENTRIES 16384

struct entry {
    char call[16], path[240];
};

struct control {
    char root[512];         /* empty: nothing is counted */
    _Atomic int64_t calls;  /* counted so far */
    int64_t at;             /* the call that is stopped, from 1; 0: none */
    int32_t error;          /* errno of the stopped call; 0: the process is killed */
    int32_t lasting;        /* whether all later calls that need space fail too */
    struct entry log[ENTRIES];
};

static struct control *control;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("INJECTION_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0) return;
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (memory != MAP_FAILED) control = memory;
}

/* The absolute path of a name in a folder (a descriptor or AT_FDCWD); of the descriptor itself if there is no name. */
static void absolute(int folder, const char *name, char *path, size_t size) {
    path[0] = 0;
    if (name && name[0] == '/') {
        snprintf(path, size, "%s", name);
        return;
    }
    char link[64];
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
    if (name && length > 0 && (size_t)length + 2 < size) snprintf(path + length, size - length, "/%s", name);
}

/* Whether the call must fail; errno is set then. torn: a descriptor that gets half of a write before the kill. */
static int stopped(const char *call, int folder, const char *name, int needs_space, int torn, const void *data,
                   size_t bytes) {
    if (!control || !control->root[0]) return 0;
    int saved = errno;
    char path[PATH_MAX];
    absolute(folder, name, path, sizeof path);
    errno = saved;
    size_t length = strlen(control->root);
    if (strncmp(path, control->root, length)) return 0;
    int64_t number = atomic_fetch_add(&control->calls, 1) + 1;
    if (number <= ENTRIES) {
        struct entry *entry = &control->log[number - 1];
        snprintf(entry->call, sizeof entry->call, "%s", call);
        snprintf(entry->path, sizeof entry->path, "%s", path + length);
    }
    int is_later = control->at && control->lasting && needs_space && number > control->at;
    if (number != control->at && !is_later) return 0;
    if (!control->error) {
        if (torn >= 0 && bytes > 1) syscall(SYS_write, torn, data, bytes / 2);
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        for (;;) pause();
    }
    if (control->lasting && !needs_space) return 0;
    errno = control->error;
    return 1;
}

#define STOP_AT(call, folder, name, needs_space) \
    if (stopped(call, folder, name, needs_space, -1, NULL, 0)) return -1

static int open_file(int folder, const char *name, int flags, int mode) {
    if (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) STOP_AT("open", folder, name, !!(flags & O_CREAT));
    return (int)syscall(SYS_openat, folder, name, flags, mode);
}

#define OPEN(function, parameters, folder)                      \
    int function parameters {                                   \
        va_list more;                                           \
        va_start(more, flags);                                  \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; \
        va_end(more);                                           \
        return open_file(folder, name, flags, mode);            \
    }

OPEN(open, (const char *name, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *name, int flags, ...), AT_FDCWD)
OPEN(openat, (int folder, const char *name, int flags, ...), folder)
OPEN(openat64, (int folder, const char *name, int flags, ...), folder)

int creat(const char *name, mode_t mode) { return open_file(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, (int)mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

ssize_t write(int fd, const void *data, size_t bytes) {
    if (fd > 2 && stopped("write", fd, NULL, 1, fd, data, bytes)) return -1;
    return syscall(SYS_write, fd, data, bytes);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) {
    STOP_AT("pwrite", fd, NULL, 1);
    return syscall(SYS_pwrite64, fd, data, bytes, offset);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return pwrite64(fd, data, bytes, offset); }

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    if (fd > 2) STOP_AT("writev", fd, NULL, 1);
    return syscall(SYS_writev, fd, pieces, count);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t bytes) {
    STOP_AT("sendfile", out, NULL, 1);
    return syscall(SYS_sendfile, out, in, offset, bytes);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t bytes) { return sendfile(out, in, offset, bytes); }

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t bytes, unsigned flags) {
    STOP_AT("copy_file_range", out, NULL, 1);
    return syscall(SYS_copy_file_range, in, from, out, to, bytes, flags);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    STOP_AT("rename", to, new, 0);
    return (int)syscall(SYS_renameat2, from, old, to, new, flags);
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    STOP_AT("link", to, new, 1);
    return (int)syscall(SYS_linkat, from, old, to, new, flags);
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *target, int folder, const char *name) {
    STOP_AT("symlink", folder, name, 1);
    return (int)syscall(SYS_symlinkat, target, folder, name);
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int unlinkat(int folder, const char *name, int flags) {
    STOP_AT(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, name, 0);
    return (int)syscall(SYS_unlinkat, folder, name, flags);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    STOP_AT("mkdir", folder, name, 1);
    return (int)syscall(SYS_mkdirat, folder, name, mode);
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* Of descriptors that were open for writing only: a file system over the network reports a full disk here. */
int close(int fd) {
    int flags = fd > 2 && control && control->root[0] ? (int)syscall(SYS_fcntl, fd, F_GETFL) : -1;
    int fails = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && stopped("close", fd, NULL, 1, -1, NULL, 0);
    int saved = errno, result = (int)syscall(SYS_close, fd);
    if (!fails) return result;
    errno = saved;
    return -1;
}

/* Nothing waits for the disk: the kernel keeps what a killed process has written, and this is faster. */
int fsync(int fd) {
    STOP_AT("fsync", fd, NULL, 1);
    return 0;
}
int fdatasync(int fd) {
    STOP_AT("fdatasync", fd, NULL, 1);
    return 0;
}

int fchmod(int fd, mode_t mode) {
    STOP_AT("chmod", fd, NULL, 0);
    return (int)syscall(SYS_fchmod, fd, mode);
}
int chmod(const char *name, mode_t mode) {
    STOP_AT("chmod", AT_FDCWD, name, 0);
    return (int)syscall(SYS_fchmodat, AT_FDCWD, name, mode);
}

int fchown(int fd, uid_t user, gid_t group) {
    STOP_AT("chown", fd, NULL, 0);
    return (int)syscall(SYS_fchown, fd, user, group);
}
int chown(const char *name, uid_t user, gid_t group) {
    STOP_AT("chown", AT_FDCWD, name, 0);
    return (int)syscall(SYS_fchownat, AT_FDCWD, name, user, group, 0);
}

int ftruncate64(int fd, off64_t bytes) {
    STOP_AT("truncate", fd, NULL, 0);
    return (int)syscall(SYS_ftruncate, fd, bytes);
}
int ftruncate(int fd, off_t bytes) { return ftruncate64(fd, bytes); }
int truncate64(const char *name, off64_t bytes) {
    STOP_AT("truncate", AT_FDCWD, name, 0);
    return (int)syscall(SYS_truncate, name, bytes);
}
int truncate(const char *name, off_t bytes) { return truncate64(name, bytes); }
