/* Counts the A64 instructions that an emulated program executes between two marks (a TCG plug-in of qemu-aarch64).
 *
 * The program marks with a system call that no kernel has: syscall(4242, 3) arms the plug-in once (until then nothing is
 * instrumented, so that imports run at full speed), syscall(4242, 1, region) starts a region, syscall(4242, 2, region)
 * stops it. Each stop writes a line "region instructions loads stores" to the file given by out=. Instructions of
 * all threads count. Every virtual CPU adds to counters of its own, so none is lost and none is locked; the thread that
 * marks reads them all. An instruction is counted when its translated block begins: a block left early by a signal
 * counts whole.
 *
 * QEMU's header is not needed: the few functions of its plug-in interface are declared here. PLUGIN_API is the
 * interface's version: 1 for QEMU 4.2 to 8, 3 or more for QEMU 9 and later (instruction bytes are copied out).
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

typedef void (*reset_done)(qemu_plugin_id_t id);
typedef void (*tb_translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*tb_executed)(unsigned int vcpu, void *user);
typedef void (*syscall_seen)(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                             uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

extern void qemu_plugin_reset(qemu_plugin_id_t id, reset_done callback);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translated callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, tb_executed callback, int flags, void *user);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, syscall_seen callback);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
#if PLUGIN_API < 3
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#else
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *into, size_t bytes);
#endif

EXPORT int qemu_plugin_version = PLUGIN_API;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

enum { MARK_SYSCALL = 4242, MARK_START = 1, MARK_STOP = 2, MARK_ARM = 3, CB_NO_REGS = 0, MAX_VCPUS = 1024 };

typedef struct {
    uint64_t instructions, loads, stores;
} Counts;

/* A cache line each, so that threads do not slow each other down. */
typedef struct {
    Counts counts;
    char padding[128 - sizeof(Counts)];
} Counter;

static Counter counters[MAX_VCPUS];
static Counts at_start;
static int is_armed;
static FILE *out;

static void marked(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t what, uint64_t region, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

/* Whether the word is an A64 load (1), a store (2), both (3, atomics) or neither (0); prefetches are neither.
 * Arm Architecture Reference Manual, C4.1 "A64 instruction set encoding", loads and stores: op0 (bits 28 to 25) x1x0. */
static int memory_access(uint32_t word)
{
    uint32_t size = word >> 30, opc = (word >> 22) & 3u, vector = (word >> 26) & 1u, group = (word >> 27) & 7u;
    if (((word >> 25) & 5u) != 4u) {
        return 0;
    }
    if (group == 3 && ((word >> 24) & 1u) == 0) { /* literal */
        return !vector && size == 3 ? 0 : 1;
    }
    if (group == 7) { /* register forms */
        if (!vector && ((word >> 24) & 1u) == 0 && ((word >> 21) & 1u) && ((word >> 10) & 3u) == 0) {
            return 3; /* atomic memory operations */
        }
        if (!vector && size == 3 && opc == 2) {
            return 0; /* prefetch */
        }
        return (vector ? (opc & 1u) : opc != 0) ? 1 : 2;
    }
    return (word >> 22) & 1u ? 1 : 2; /* pairs, exclusives, vector structures: the L bit */
}

static uint32_t word_of(const struct qemu_plugin_insn *insn)
{
    uint32_t word = 0;
#if PLUGIN_API < 3
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
#else
    (void)qemu_plugin_insn_data(insn, &word, sizeof word);
#endif
    return word;
}

/* Only the CPU's own thread writes its counter; relaxed atomics make the marking thread's reads whole. */
static void add(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + more, __ATOMIC_RELAXED);
}

static void executed(unsigned int vcpu, void *user)
{
    const Counts *block = user;
    Counts *own;
    if (vcpu >= MAX_VCPUS) {
        fprintf(stderr, "count_plugin: more than %d threads\n", (int)MAX_VCPUS);
        abort();
    }
    own = &counters[vcpu].counts;
    add(&own->instructions, block->instructions);
    add(&own->loads, block->loads);
    add(&own->stores, block->stores);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    /* Never freed: QEMU may keep the block as long as the program runs. */
    Counts *block = calloc(1, sizeof *block);
    size_t count = qemu_plugin_tb_n_insns(tb);
    (void)id;
    if (block == NULL) {
        abort();
    }
    block->instructions = count;
    for (size_t i = 0; i < count; i++) {
        int access = memory_access(word_of(qemu_plugin_tb_get_insn(tb, i)));
        block->loads += (uint64_t)(access & 1);
        block->stores += (uint64_t)(access >> 1);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, CB_NO_REGS, block);
}

static Counts total(void)
{
    Counts sum = {0, 0, 0};
    for (int i = 0; i < MAX_VCPUS; i++) {
        sum.instructions += __atomic_load_n(&counters[i].counts.instructions, __ATOMIC_RELAXED);
        sum.loads += __atomic_load_n(&counters[i].counts.loads, __ATOMIC_RELAXED);
        sum.stores += __atomic_load_n(&counters[i].counts.stores, __ATOMIC_RELAXED);
    }
    return sum;
}

/* All translated blocks are gone: those made from now on are instrumented. */
static void armed(qemu_plugin_id_t id)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, marked);
}

static void marked(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t what, uint64_t region, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)vcpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK_SYSCALL) {
        return;
    }
    if (what == MARK_ARM && !is_armed) {
        is_armed = 1;
        qemu_plugin_reset(id, armed);
    } else if (what == MARK_START) {
        at_start = total();
    } else if (what == MARK_STOP) {
        Counts now = total();
        fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", region,
                now.instructions - at_start.instructions, now.loads - at_start.loads, now.stores - at_start.stores);
        fflush(out);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (out == NULL) {
        fprintf(stderr, "count_plugin: give a file that can be written as out=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_syscall_cb(id, marked);
    return 0;
}
