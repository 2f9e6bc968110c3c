/*
 * Preloaded into a process, it gives it a disk that can be slow, be full and lose what was not synced, and a clock that
 * can be wrong. Written without headers, so that a compiler alone is enough to build it.
 *
 * UNRELIABLE_CONTROL  a file of three 64-bit numbers that may change at any time: what is added to the wall clock (in
 *                     seconds), how long each sync takes longer (in microseconds), whether the disk is full (0 or 1)
 * UNRELIABLE_ROOT     the directory of the files that this is about
 * UNRELIABLE_SYNCED   an existing directory that gets a copy of each of these files, as far as it has been synced
 */

typedef unsigned long size;
typedef long offset;

struct timespec { long seconds, nanoseconds; };
struct timeval { long seconds, microseconds; };

extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern int *__errno_location(void);
extern int open(const char *, int, ...);
extern long readlink(const char *, char *, size);
extern offset lseek(int, offset, int);
extern long pread(int, void *, size, offset);
extern int ftruncate(int, offset);
extern int usleep(unsigned);
extern void *mmap(void *, size, int, int, int, offset);
extern int snprintf(char *, size, const char *, ...);
extern size strlen(const char *);
extern int strncmp(const char *, const char *, size);
extern int pthread_mutex_lock(void *);
extern int pthread_mutex_unlock(void *);

#define REAL(name) dlsym((void *)-1L /* RTLD_NEXT */, name)
#define READ_ONLY 0
#define READ_WRITE 2
#define CREATE 0100
#define NO_SPACE 28
#define MAX_FILES 4096
#define PATH_BYTES 1024

enum { UNKNOWN, OTHER, WATCHED };

/* What is known of a descriptor: its range that was written and not synced since, and the copy of what was. */
static struct { int kind, copy; offset from, to; } files[MAX_FILES];
static long mutex[16]; /* Zeros are an unlocked one. */
static volatile long *control;
enum { CLOCK_OFFSET, SYNC_DELAY, DISK_FULL };

static long setting(int which) {
  if (control == 0) {
    static long none[3];
    const char *path = getenv("UNRELIABLE_CONTROL");
    int fd = path ? open(path, READ_ONLY) : -1;
    void *shared = fd < 0 ? (void *)-1L : mmap(0, sizeof none, 1 /* PROT_READ */, 1 /* MAP_SHARED */, fd, 0);
    control = shared == (void *)-1L ? none : shared;
  }
  return control[which];
}

static long copied(int from, int to, offset at, offset end) {
  static long (*real)(int, const void *, size, offset);
  static char buffer[65536]; /* Used under the lock. */
  if (!real) real = REAL("pwrite");
  while (at < end) {
    long n = pread(from, buffer, end - at < (offset)sizeof buffer ? (size)(end - at) : sizeof buffer, at);
    if (n <= 0 || real(to, buffer, n, at) != n) break;
    at += n;
  }
  return at;
}

/* Whether the descriptor is one of the files. Begins a copy with what is there before the first write to it. */
static int watches(int fd) {
  char link[64], path[PATH_BYTES], copy[PATH_BYTES];
  const char *root = getenv("UNRELIABLE_ROOT"), *synced = getenv("UNRELIABLE_SYNCED");
  if (fd < 0 || fd >= MAX_FILES || !root) return 0;
  if (files[fd].kind != UNKNOWN) return files[fd].kind == WATCHED;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  long length = readlink(link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = 0;
  files[fd].kind = OTHER;
  if (strncmp(path, root, strlen(root)) != 0 || path[strlen(root)] != '/') return 0;
  files[fd].kind = WATCHED;
  files[fd].copy = -1;
  files[fd].from = files[fd].to = 0;
  if (!synced) return 1;
  int at = snprintf(copy, sizeof copy, "%s/", synced);
  for (const char *c = path + strlen(root) + 1; *c && at < PATH_BYTES - 1; c++) copy[at++] = *c == '/' ? '%' : *c;
  copy[at] = 0;
  files[fd].copy = open(copy, READ_WRITE);
  if (files[fd].copy >= 0) return 1;
  files[fd].copy = open(copy, READ_WRITE | CREATE, 0600);
  int before = open(link, READ_ONLY);
  copied(before, files[fd].copy, 0, lseek(before, 0, 2 /* SEEK_END */));
  int (*real)(int) = REAL("close");
  real(before);
  return 1;
}

static void written(int fd, offset from, offset to) {
  if (files[fd].from == files[fd].to) files[fd].from = from, files[fd].to = to;
  if (from < files[fd].from) files[fd].from = from;
  if (to > files[fd].to) files[fd].to = to;
}

/* Refuses on a full disk, otherwise notes what is about to be written. `at` < 0: where the descriptor stands. */
static int refused(int fd, size count, offset at) {
  if (files[fd < 0 || fd >= MAX_FILES ? 0 : fd].kind == OTHER) return 0;
  pthread_mutex_lock(mutex);
  int watched = watches(fd);
  if (watched && setting(DISK_FULL)) {
    pthread_mutex_unlock(mutex);
    *__errno_location() = NO_SPACE;
    return 1;
  }
  if (watched && at >= 0) written(fd, at, at + (offset)count);
  pthread_mutex_unlock(mutex);
  return 0;
}

long write(int fd, const void *data, size count) {
  static long (*real)(int, const void *, size);
  if (!real) real = REAL("write");
  if (refused(fd, count, -1)) return -1;
  long n = real(fd, data, count);
  if (n > 0 && fd < MAX_FILES && files[fd].kind == WATCHED) {
    pthread_mutex_lock(mutex);
    offset end = lseek(fd, 0, 1 /* SEEK_CUR: an append moves it too */);
    written(fd, end - n, end);
    pthread_mutex_unlock(mutex);
  }
  return n;
}

long pwrite(int fd, const void *data, size count, offset at) {
  static long (*real)(int, const void *, size, offset);
  if (!real) real = REAL("pwrite");
  return refused(fd, count, at) ? -1 : real(fd, data, count, at);
}

long pwrite64(int fd, const void *data, size count, offset at) { return pwrite(fd, data, count, at); }

int close(int fd) {
  static int (*real)(int);
  if (!real) real = REAL("close");
  if (fd >= 0 && fd < MAX_FILES && files[fd].kind != UNKNOWN) {
    pthread_mutex_lock(mutex);
    if (files[fd].kind == WATCHED && files[fd].copy >= 0) real(files[fd].copy);
    files[fd].kind = UNKNOWN;
    pthread_mutex_unlock(mutex);
  }
  return real(fd);
}

static int sync_with(int (*real)(int), int fd) {
  pthread_mutex_lock(mutex);
  int watched = watches(fd);
  offset from = watched ? files[fd].from : 0, to = watched ? files[fd].to : 0;
  if (watched) files[fd].from = files[fd].to = 0;
  pthread_mutex_unlock(mutex);
  /* What is written from here on is not in this sync. */
  if (watched && setting(SYNC_DELAY) > 0) usleep(setting(SYNC_DELAY));
  int result = real(fd);
  if (!watched || result != 0) return result;
  pthread_mutex_lock(mutex);
  if (files[fd].kind == WATCHED && files[fd].copy >= 0) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int now = open(link, READ_ONLY);
    offset end = lseek(now, 0, 2 /* SEEK_END */);
    copied(now, files[fd].copy, from, to);
    if (end < lseek(files[fd].copy, 0, 2)) ftruncate(files[fd].copy, end);
    int (*end_of)(int) = REAL("close");
    end_of(now);
  }
  pthread_mutex_unlock(mutex);
  return result;
}

int fsync(int fd) { return sync_with(REAL("fsync"), fd); }

int fdatasync(int fd) { return sync_with(REAL("fdatasync"), fd); }

int clock_gettime(int clock, struct timespec *now) {
  static int (*real)(int, struct timespec *);
  if (!real) real = REAL("clock_gettime");
  int result = real(clock, now);
  if (result == 0 && (clock == 0 /* CLOCK_REALTIME */ || clock == 5 /* …_COARSE */)) now->seconds += setting(CLOCK_OFFSET);
  return result;
}

int gettimeofday(struct timeval *now, void *zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = REAL("gettimeofday");
  int result = real(now, zone);
  if (result == 0) now->seconds += setting(CLOCK_OFFSET);
  return result;
}

long time(long *into) {
  struct timeval now;
  gettimeofday(&now, 0);
  if (into) *into = now.seconds;
  return now.seconds;
}
