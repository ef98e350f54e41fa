/* Counts how often each block of an emulated Cortex-M program is executed (a TCG plug-in of qemu-system-arm).
 *
 * From the first execution of the address begin= on, until end= is executed, each translated block is counted, and each
 * time that it is left by a taken branch. Written to the file out=, one line a block: "address size executed taken",
 * numbers in decimal.
 *
 * QEMU's header is not needed: the few functions of its plug-in interface are declared here. PLUGIN_API is the
 * interface's version: 1 for QEMU 4.2 to 8, 3 or more for QEMU 9 and later (instruction bytes are copied out).
 */
#define _POSIX_C_SOURCE 200809L
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

typedef void (*tb_translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*executed_callback)(unsigned int vcpu, void *user);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translated callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, executed_callback callback, int flags,
                                                 void *user);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
#if PLUGIN_API < 3
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#else
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *into, size_t bytes);
#endif

EXPORT int qemu_plugin_version = PLUGIN_API;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

enum { CB_NO_REGS = 0 };

/* Never freed: QEMU may keep the block as long as the program runs. */
typedef struct Block {
    uint64_t address, size, executed, taken;
    struct Block *next;
} Block;

static Block *blocks, *last;
static uint64_t first_address, end_address;
static const char *out;
static int counting, written;

static void write_counts(void)
{
    FILE *file = fopen(out, "w");
    if (file == NULL) {
        fprintf(stderr, "count_plugin: %s can't be written\n", out);
        exit(1);
    }
    for (const Block *block = blocks; block != NULL; block = block->next) {
        if (block->executed != 0) {
            fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->size,
                    block->executed, block->taken);
        }
    }
    fclose(file);
}

static void executed(unsigned int vcpu, void *user)
{
    Block *block = user;
    (void)vcpu;
    if (last != NULL && block->address != last->address + last->size) {
        last->taken++;
    }
    last = NULL;
    if (block->address == first_address && !written) {
        counting = 1;
    }
    if (block->address == end_address && counting) {
        counting = 0;
        written = 1;
        write_counts();
    }
    if (counting) {
        block->executed++;
        last = block;
    }
}

static uint64_t bytes_of(const struct qemu_plugin_insn *insn)
{
    /* The size that QEMU gives is wrong by 2 for the last instruction before one that straddles a page. */
    uint16_t half = 0;
#if PLUGIN_API < 3
    memcpy(&half, qemu_plugin_insn_data(insn), sizeof half);
#else
    (void)qemu_plugin_insn_data(insn, &half, sizeof half);
#endif
    return half >> 11 >= 0x1d ? 4 : 2;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t count = qemu_plugin_tb_n_insns(tb);
    const struct qemu_plugin_insn *end = qemu_plugin_tb_get_insn(tb, count - 1);
    Block *block = calloc(1, sizeof *block);
    (void)id;
    if (block == NULL) {
        abort();
    }
    block->address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    block->size = qemu_plugin_insn_vaddr(end) + bytes_of(end) - block->address;
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, CB_NO_REGS, block);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "begin=", 6) == 0) {
            first_address = strtoull(argv[i] + 6, NULL, 0) & ~(uint64_t)1;
        } else if (strncmp(argv[i], "end=", 4) == 0) {
            end_address = strtoull(argv[i] + 4, NULL, 0) & ~(uint64_t)1;
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = argv[i] + 4;
        }
    }
    /* The arguments do not outlive this call. */
    out = out == NULL ? NULL : strdup(out);
    if (out == NULL || first_address == 0 || end_address == 0) {
        fprintf(stderr, "count_plugin: give begin=ADDRESS,end=ADDRESS,out=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
