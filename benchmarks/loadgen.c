/* HTTP/1.1 load from one thread, closed or open loop. Built by generators.py with the machine's C compiler, or zig's.
 *
 *   loadgen PORT CONNECTIONS SECONDS RATE REQUESTS SAMPLES
 *
 * REQUESTS holds raw requests, each behind its length in 4 bytes; they are sent in that order again and again.
 * RATE 0 is the closed loop: a connection sends its next request when the last one is answered. Any other RATE is the
 * open loop: so many requests a second, evenly spaced, whether or not the server keeps up. A request whose turn comes
 * while every connection waits for an answer is sent later, and its time counts from its turn, so that no waiting is
 * hidden; what could not be sent before the end counts as unsent, with the time that it has waited. SAMPLES gets one
 * record of three 4-byte numbers for each request: when its turn was, what it took, and how late this program itself
 * was with it, in units of 100 ns. On stdout: one line of JSON.
 *
 * It understands content-length and chunked answers, and sends nothing before the answer to the last is whole.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 65536
#define READ_BYTES (1 << 18)
#define GRACE_NS 10000000000LL /* for answers that are outstanding when the time is over */
#define UNIT_NS 100

typedef struct {
    const char *bytes;
    uint32_t length;
} Request;

typedef struct {
    uint32_t turn, took, late;
} Sample;

typedef struct {
    int fd;
    int busy, connecting, in_body, chunked;
    const Request *request;
    size_t written;
    int64_t turn, late, free_since, left;
    int status;
    size_t head_length;
    char head[HEAD_BYTES];
    char tail[5]; /* of a chunked body */
} Connection;

static Request *requests;
static size_t request_count, cursor;
static Sample *samples;
static size_t sample_count, sample_room;
static Connection *connections, **idle;
static int connection_count, idle_count, poller, timer;
static struct sockaddr_in address;
static int64_t started, ends, interval, turns; /* interval 0: the closed loop */
static uint64_t refused, broken, unsent, received;
static char first_refusal[64];
static char buffer[READ_BYTES];

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static uint32_t units(int64_t ns) {
    if (ns < 0) return 0;
    return ns / UNIT_NS > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / UNIT_NS);
}

static void record(int64_t turn, int64_t took, int64_t late) {
    if (sample_count == sample_room) {
        sample_room = sample_room ? sample_room * 2 : 1 << 16;
        samples = realloc(samples, sample_room * sizeof *samples);
        if (!samples) die("samples");
    }
    samples[sample_count++] = (Sample){units(turn - started), units(took), units(late)};
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    uint32_t length;
    size_t room = 0;
    if (!file) die(path);
    while (fread(&length, sizeof length, 1, file) == 1) {
        char *bytes = malloc(length);
        if (!bytes || fread(bytes, 1, length, file) != length) die(path);
        if (request_count == room) {
            room = room ? room * 2 : 1024;
            requests = realloc(requests, room * sizeof *requests);
            if (!requests) die(path);
        }
        requests[request_count++] = (Request){bytes, length};
    }
    fclose(file);
    if (!request_count) {
        fprintf(stderr, "no requests in %s\n", path);
        exit(1);
    }
}

static void watch(Connection *it, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = it};
    if (epoll_ctl(poller, operation, it->fd, &event) < 0) die("epoll_ctl");
}

static void open_connection(Connection *it) {
    int yes = 1;
    it->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (it->fd < 0) die("socket");
    setsockopt(it->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    it->connecting = 1;
    if (connect(it->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) die("connect");
    watch(it, EPOLL_CTL_ADD, EPOLLOUT);
}

static void set_timer(int64_t at) {
    struct itimerspec when = {.it_value = {at / 1000000000LL, at % 1000000000LL}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL) < 0) die("timerfd_settime");
}

static void lost(Connection *it);

static void flush(Connection *it) {
    while (it->written < it->request->length) {
        ssize_t count = send(it->fd, it->request->bytes + it->written, it->request->length - it->written, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) {
            watch(it, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (count < 0) {
            lost(it);
            return;
        }
        it->written += (size_t)count;
    }
}

static void send_next(Connection *it, int64_t turn, int64_t at) {
    it->request = &requests[cursor];
    cursor = cursor + 1 == request_count ? 0 : cursor + 1;
    it->busy = 1;
    it->written = it->head_length = 0;
    it->in_body = it->chunked = 0;
    it->turn = turn;
    /* How late this program is: from the turn, or from when the connection was free, to now. */
    it->late = at - (turn > it->free_since ? turn : it->free_since);
    flush(it);
}

static int64_t next_turn(void) { return started + turns * interval; }

/* A connection is free: what is due goes out on it, in the order of turns. When the time is over, nothing does. */
static void take_turn(Connection *it, int64_t at) {
    it->free_since = at;
    if (at >= ends) return;
    if (!interval) {
        send_next(it, at, at);
    } else if (next_turn() <= at) {
        send_next(it, started + turns++ * interval, at);
    } else {
        idle[idle_count++] = it;
    }
}

static void take_due_turns(void) {
    int64_t at = now();
    if (at >= ends) return;
    while (idle_count && next_turn() <= at) send_next(idle[--idle_count], started + turns++ * interval, at);
    if (idle_count && next_turn() < ends) set_timer(next_turn());
}

static void lost(Connection *it) {
    if (it->busy) {
        broken++;
        record(it->turn, now() - it->turn, it->late);
    }
    it->busy = 0;
    epoll_ctl(poller, EPOLL_CTL_DEL, it->fd, NULL);
    close(it->fd);
    for (int number = 0; number < idle_count; number++)
        if (idle[number] == it) idle[number--] = idle[--idle_count];
    if (now() < ends) open_connection(it);
}

static void answered(Connection *it) {
    int64_t at = now();
    it->busy = 0;
    record(it->turn, at - it->turn, it->late);
    if (it->status < 200 || it->status > 299) {
        if (!refused++) snprintf(first_refusal, sizeof first_refusal, "%d", it->status);
    }
    take_turn(it, at);
}

/* The value of a header, or NULL. */
static const char *header(Connection *it, const char *name) {
    size_t length = strlen(name);
    for (const char *line = it->head; (line = strstr(line, "\r\n")) && line[2] != '\r';) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') return line + length + 1 + strspn(line + length + 1, " ");
    }
    return NULL;
}

static void body(Connection *it, const char *bytes, size_t count) {
    if (it->chunked) {
        for (size_t number = count > 5 ? count - 5 : 0; number < count; number++) {
            memmove(it->tail, it->tail + 1, 4);
            it->tail[4] = bytes[number];
        }
        if (!memcmp(it->tail, "0\r\n\r\n", 5)) answered(it);
        return;
    }
    it->left -= (int64_t)count;
    if (it->left < 0)
        lost(it); /* more than was said: these two do not speak the same HTTP */
    else if (it->left == 0)
        answered(it);
}

static void feed(Connection *it, const char *bytes, size_t count) {
    if (it->in_body) {
        body(it, bytes, count);
        return;
    }
    size_t before = it->head_length, taken = count;
    if (taken > HEAD_BYTES - 1 - before) taken = HEAD_BYTES - 1 - before;
    memcpy(it->head + before, bytes, taken);
    it->head_length += taken;
    it->head[it->head_length] = 0;
    char *end = memmem(it->head, it->head_length, "\r\n\r\n", 4);
    if (!end) {
        if (it->head_length == HEAD_BYTES - 1) lost(it);
        return;
    }
    size_t head_bytes = (size_t)(end + 4 - it->head) - before;
    it->status = it->head_length > 12 ? atoi(it->head + 9) : 0;
    const char *length = header(it, "content-length"), *coding = header(it, "transfer-encoding");
    it->chunked = coding && !strncasecmp(coding, "chunked", 7);
    it->left = length ? atoll(length) : 0;
    it->in_body = 1;
    memset(it->tail, 0, sizeof it->tail);
    body(it, bytes + head_bytes, count - head_bytes);
}

static void readable(Connection *it) {
    ssize_t count = recv(it->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0 || !it->busy) {
        lost(it);
        return;
    }
    received += (uint64_t)count;
    feed(it, buffer, (size_t)count);
}

static void ready(Connection *it, uint32_t events) {
    if (it->connecting) {
        it->connecting = 0;
        if (events & (EPOLLERR | EPOLLHUP)) {
            broken++;
            usleep(1000); /* nobody listens: not as fast as this machine can ask */
            lost(it);
            return;
        }
        watch(it, EPOLL_CTL_MOD, EPOLLIN);
        take_turn(it, now());
        return;
    }
    if ((events & EPOLLOUT) && it->busy) {
        watch(it, EPOLL_CTL_MOD, EPOLLIN);
        flush(it);
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(it);
}

static int any_busy(void) {
    for (int number = 0; number < connection_count; number++)
        if (connections[number].busy) return 1;
    return 0;
}

static void loop(void) {
    struct epoll_event events[256];
    for (;;) {
        int64_t at = now();
        if (at >= ends && (!any_busy() || at >= ends + GRACE_NS)) return;
        int64_t until = at < ends ? ends : at + 100000000LL;
        int count = epoll_wait(poller, events, 256, (int)((until - at) / 1000000) + 1);
        for (int number = 0; number < count; number++) {
            if (events[number].data.ptr) {
                ready(events[number].data.ptr, events[number].events);
            } else {
                uint64_t fired;
                if (read(timer, &fired, sizeof fired) < 0 && errno != EAGAIN) die("timer");
            }
        }
        if (interval) take_due_turns();
    }
}

/* What got no answer counts with the time that it has waited until now. */
static void close_books(void) {
    int64_t at = now();
    for (int number = 0; number < connection_count; number++) {
        if (!connections[number].busy) continue;
        broken++;
        record(connections[number].turn, at - connections[number].turn, connections[number].late);
    }
    for (; interval && next_turn() < ends; turns++) {
        unsent++;
        record(next_turn(), ends - next_turn(), 0);
    }
}

int main(int count, char **arguments) {
    if (count != 7) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS SECONDS RATE REQUESTS SAMPLES\n", arguments[0]);
        return 2;
    }
    double rate = atof(arguments[4]);
    prctl(PR_SET_TIMERSLACK, 1UL);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection_count = atoi(arguments[2]);
    read_requests(arguments[5]);
    connections = calloc((size_t)connection_count, sizeof *connections);
    idle = calloc((size_t)connection_count, sizeof *idle);
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (!connections || !idle || poller < 0 || timer < 0) die("start");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    interval = rate > 0 ? (int64_t)(1e9 / rate) : 0;
    started = now();
    ends = started + (int64_t)(atof(arguments[3]) * 1e9);
    for (int number = 0; number < connection_count; number++) open_connection(&connections[number]);
    loop();
    int64_t ended = now();
    close_books();
    FILE *file = fopen(arguments[6], "wb");
    if (!file || fwrite(samples, sizeof *samples, sample_count, file) != sample_count || fclose(file)) die(arguments[6]);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"refused\": %llu, \"broken\": %llu, \"unsent\": %llu, \"bytes\": %llu, "
           "\"cpu_s\": %.6f, \"first_refusal\": \"%s\"}\n",
           sample_count, (double)(ended - started) / 1e9, (unsigned long long)refused, (unsigned long long)broken,
           (unsigned long long)unsent, (unsigned long long)received, cpu_s, first_refusal);
    return 0;
}
