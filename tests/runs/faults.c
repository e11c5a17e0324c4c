/* Preloaded: the n-th call of one kind on a path below a root fails, or kills. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[4096], kind[16];
static long at, count;
static int code;

/* error 0 kills; a full disk stays full, other errors come once */
void arm(const char *new_kind, const char *new_root, long n, int error) {
  strncpy(kind, new_kind, sizeof kind - 1);
  strncpy(root, new_root, sizeof root - 1);
  at = n, code = error, count = 0;
}

long calls(void) { return count; }

static int fails(const char *name, const char *path) {
  if (!root[0] || strcmp(kind, name) || strncmp(path, root, strlen(root))) return 0;
  ++count;
  if (count != at && !(code == ENOSPC && at && count > at)) return 0;
  if (code == 0) kill(getpid(), SIGKILL);
  errno = code;
  return 1;
}

static int fails_fd(const char *name, int fd) {
  char link[64], path[4096];
  if (!root[0] || strcmp(kind, name)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  return fails(name, path);
}

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n) {
  return fails_fd("write", fd) ? -1 : NEXT(write)(fd, data, n);
}
int fsync(int fd) { return fails_fd("fsync", fd) ? -1 : NEXT(fsync)(fd); }
int flock(int fd, int how) { /* to unlock fails nowhere */
  return !(how & LOCK_UN) && fails_fd("flock", fd) ? -1 : NEXT(flock)(fd, how);
}
int rename(const char *a, const char *b) {
  return fails("rename", b) ? -1 : NEXT(rename)(a, b);
}
int unlink(const char *p) { return fails("unlink", p) ? -1 : NEXT(unlink)(p); }
int mkdir(const char *p, mode_t m) { return fails("mkdir", p) ? -1 : NEXT(mkdir)(p, m); }
int open64(const char *p, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (flags & O_CREAT && fails("create", p)) return -1;
  return NEXT(open64)(p, flags, mode);
}
