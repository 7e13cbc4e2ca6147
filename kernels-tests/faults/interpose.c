/* Loaded into the command with LD_PRELOAD: counts what it does to the files below one directory, keeps a log of it, and at
 * one call does harm.
 *
 *   DQO_FAULT_DIR   the directory, absolute
 *   DQO_FAULT_LOG   where the log goes: a line a call, and behind a write's line what it wrote
 *   DQO_FAULT_AT    the number of the call that goes wrong, from 1
 *   DQO_FAULT_KIND  kill   the process ends before the call
 *                   half   half of a write is done, and the process ends
 *                   full   the disk is full from here on: half of a write is done, then nothing fits
 *                   EIO    the call fails
 *                   EINTR  the call is interrupted, and may be made again
 *
 * Calls with a file open are counted by the name that it has then (/proc/self/fd). Reading is not counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long count;
static int full;

/* What becomes of a call. */
enum fate { DONE, HALF, FAILED };

/* The absolute path of what a call names; whether it is below the directory. */
static int below(int dir, const char *path, char *out) {
    const char *root = getenv("DQO_FAULT_DIR");
    char base[PATH_MAX / 2] = "", link[64];
    if (!root) return 0;
    if (!path || path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0) return 0;
            base[length] = 0;
        }
    }
    if (!path) snprintf(out, PATH_MAX, "%s", base);
    else if (snprintf(out, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", path) >= PATH_MAX) return 0;
    size_t length = strlen(root);
    return strncmp(out, root, length) == 0 && (out[length] == '/' || out[length] == 0);
}

static void put(const char *bytes, size_t length) {
    const char *path = getenv("DQO_FAULT_LOG");
    static int log = -1;
    if (!path) return;
    if (log < 0) log = NEXT(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    while (length > 0) {
        ssize_t done = NEXT(write)(log, bytes, length);
        if (done <= 0) _exit(99);
        bytes += done;
        length -= done;
    }
}

/* Counts a call, and says what becomes of it. `takes_room`: it fails where the disk is full. `may_wait`: it may be
 * interrupted. `writes`: it can be half done. */
static enum fate meet(int takes_room, int may_wait, int writes) {
    const char *at = getenv("DQO_FAULT_AT"), *kind = getenv("DQO_FAULT_KIND");
    int now = ++count == (at ? atol(at) : 0);
    if (full && takes_room) {
        errno = ENOSPC;
        return FAILED;
    }
    if (!now || !kind) return DONE;
    if (!strcmp(kind, "kill")) _exit(97);
    if (!strcmp(kind, "half")) {
        if (!writes) _exit(97);
        return HALF;
    }
    if (!strcmp(kind, "full")) {
        full = 1;
        if (writes) return HALF;
        errno = ENOSPC;
        return takes_room ? FAILED : DONE;
    }
    int interrupts = !strcmp(kind, "EINTR");
    if (interrupts && !may_wait) return DONE;
    errno = interrupts ? EINTR : EIO;
    return FAILED;
}

/* Where half of a write was done. */
static void half_done(void) {
    if (!full) _exit(97);
}

static void note(const char *what, long first, long second, const char *from, const char *to) {
    char line[2 * PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%s\t%ld\t%ld\t%s\t%s\n", what, first, second, from, to);
    put(line, length);
}

#define BEGIN pthread_mutex_lock(&mutex)
#define END                                 \
    do {                                    \
        int kept = errno;                   \
        pthread_mutex_unlock(&mutex);       \
        errno = kept;                       \
        return result;                      \
    } while (0)

/* A call that is done or fails as a whole; it is noted where it was done. */
#define WHOLE(takes_room, may_wait, what, first, second, from, to, call) \
    do {                                                                \
        if (meet(takes_room, may_wait, 0) == DONE) {                    \
            result = (call);                                            \
            if (result >= 0) note(what, first, second, from, to);       \
        }                                                               \
    } while (0)

static int opened(int dir, const char *path, int flags, mode_t mode) {
    char name[PATH_MAX];
    int result = -1;
    struct stat there;
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !below(dir, path, name))
        return NEXT(openat)(dir, path, flags, mode);
    BEGIN;
    int is_new = (flags & O_CREAT) && NEXT(fstatat)(dir, path, &there, 0) != 0;
    WHOLE(is_new, 1, "open", is_new, !!(flags & O_TRUNC), name, "", NEXT(openat)(dir, path, flags, mode));
    END;
}

#define MODE                         \
    mode_t mode = 0;                 \
    if (flags & O_CREAT) {           \
        va_list list;                \
        va_start(list, flags);       \
        mode = va_arg(list, mode_t); \
        va_end(list);                \
    }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return opened(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* Where the next write to a file goes. */
static off_t place(int file) {
    struct stat there;
    int flags = fcntl(file, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND)) return fstat(file, &there) == 0 ? there.st_size : 0;
    return lseek(file, 0, SEEK_CUR);
}

ssize_t write(int file, const void *bytes, size_t length) {
    char name[PATH_MAX];
    ssize_t result = -1;
    if (!below(file, NULL, name)) return NEXT(write)(file, bytes, length);
    BEGIN;
    enum fate fate = meet(1, 1, length > 1);
    if (fate != FAILED) {
        off_t at = place(file);
        result = NEXT(write)(file, bytes, fate == HALF ? length / 2 : length);
        if (result >= 0) {
            note("write", at, result, name, "");
            put(bytes, result);
            put("\n", 1);
        }
        if (fate == HALF) half_done();
    }
    END;
}

/* Not used by the command today: as one write of the first part, which the caller goes on from. */
ssize_t writev(int file, const struct iovec *parts, int parts_count) {
    char name[PATH_MAX];
    if (parts_count < 1 || !below(file, NULL, name)) return NEXT(writev)(file, parts, parts_count);
    return write(file, parts[0].iov_base, parts[0].iov_len);
}

/* A part of a file is copied: what was written is read again for the log. */
static ssize_t copied(int to, off_t at, ssize_t length, const char *name) {
    char link[64], *bytes = malloc(length > 0 ? length : 1);
    snprintf(link, sizeof link, "/proc/self/fd/%d", to);
    int again = NEXT(open)(link, O_RDONLY);
    if (again < 0 || pread(again, bytes, length, at) != length) _exit(99);
    NEXT(close)(again);
    note("write", at, length, name, "");
    put(bytes, length);
    put("\n", 1);
    free(bytes);
    return length;
}

#define COPIED(call)                                      \
    char name[PATH_MAX];                                  \
    ssize_t result = -1;                                  \
    if (!below(to, NULL, name)) return call;              \
    BEGIN;                                                \
    enum fate fate = meet(1, 0, 1);                       \
    if (fate != FAILED) {                                 \
        struct stat size;                                 \
        off_t at = place(to);                             \
        if (fate == HALF && fstat(from, &size) == 0 && (size_t)size.st_size < length) length = size.st_size; \
        if (fate == HALF) length /= 2;                    \
        result = call;                                    \
        if (result > 0) copied(to, at, result, name);     \
        if (fate == HALF) half_done();                    \
    }                                                     \
    END;
ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t length, unsigned flags) {
    COPIED(NEXT(copy_file_range)(from, from_at, to, to_at, length, flags))
}
ssize_t sendfile64(int to, int from, off_t *from_at, size_t length) { COPIED(NEXT(sendfile64)(to, from, from_at, length)) }

#define ON_FILE(function, parameters, arguments, file, takes_room, may_wait, what, first) \
    int function parameters {                                                             \
        char name[PATH_MAX];                                                              \
        int result = -1;                                                                  \
        if (!below(file, NULL, name)) return NEXT(function) arguments;                    \
        BEGIN;                                                                            \
        WHOLE(takes_room, may_wait, what, first, 0, name, "", NEXT(function) arguments);  \
        END;                                                                              \
    }
ON_FILE(fsync, (int file), (file), file, 0, 1, "sync", 0)
ON_FILE(fdatasync, (int file), (file), file, 0, 1, "sync", 0)
ON_FILE(ftruncate, (int file, off_t length), (file, length), file, 0, 1, "resize", length)
ON_FILE(ftruncate64, (int file, off_t length), (file, length), file, 0, 1, "resize", length)
ON_FILE(fchmod, (int file, mode_t mode), (file, mode), file, 0, 0, "mode", 0)
int flock(int, int);
ON_FILE(flock, (int file, int how), (file, how), file, 0, 0, "lock", 0)

#define ON_PATH(function, parameters, arguments, dir, path, takes_room, what)          \
    int function parameters {                                                          \
        char name[PATH_MAX];                                                           \
        int result = -1;                                                               \
        if (!below(dir, path, name)) return NEXT(function) arguments;                  \
        BEGIN;                                                                         \
        WHOLE(takes_room, 0, what, 0, 0, name, "", NEXT(function) arguments);          \
        END;                                                                           \
    }
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, 1, "mkdir")
ON_PATH(rmdir, (const char *path), (path), AT_FDCWD, path, 0, "remove")
ON_PATH(unlink, (const char *path), (path), AT_FDCWD, path, 0, "remove")
ON_PATH(unlinkat, (int dir, const char *path, int flags), (dir, path, flags), dir, path, 0, "remove")
ON_PATH(chmod, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, 0, "mode")

#define RENAMED(from_dir, to_dir, call)                                       \
    char name[PATH_MAX], new_name[PATH_MAX];                                  \
    int result = -1, one = below(from_dir, from, name);                       \
    if (!below(to_dir, to, new_name) && !one) return call;                    \
    BEGIN;                                                                    \
    WHOLE(1, 0, "rename", 0, 0, name, new_name, call);                        \
    END;
int rename(const char *from, const char *to) { RENAMED(AT_FDCWD, AT_FDCWD, NEXT(rename)(from, to)) }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    RENAMED(from_dir, to_dir, NEXT(renameat)(from_dir, from, to_dir, to))
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    RENAMED(from_dir, to_dir, NEXT(renameat2)(from_dir, from, to_dir, to, flags))
}
