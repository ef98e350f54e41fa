/* Counts how often each block of an emulated program is executed, and how often it is left by a taken branch.
 *
 * A block hook of the unicorn emulator, called from its translated code: compiled for the host, loaded by ctypes.
 * A block is known by (address, size, region). `region` changes when a block begins at one of the marks: it tells which
 * layer a shared function runs for. An array of marks, one for each halfword of the code, makes that one load.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { SLOTS = 1 << 16 };

typedef struct {
    uint64_t executed, taken;
    uint32_t address, size, region, padding;
} Block;

typedef struct {
    uint32_t region, used, overflowed, base, code_bytes, expected;
    Block *last;
    const uint16_t *marks; /* region + 1 for each halfword from `base`, 0 where none begins */
    Block blocks[SLOTS];
} Counter;

EXPORT Counter *counter_new(uint32_t base, uint32_t code_bytes, const uint16_t *marks);
EXPORT void counter_delete(Counter *counter);
EXPORT void counter_reset(Counter *counter);
EXPORT void counter_block(void *machine, uint64_t address, uint32_t size, void *user);
EXPORT uint32_t counter_read(const Counter *counter, Block *into);
EXPORT uint32_t counter_overflowed(const Counter *counter);

Counter *counter_new(uint32_t base, uint32_t code_bytes, const uint16_t *marks)
{
    Counter *counter = calloc(1, sizeof *counter);
    if (counter != NULL) {
        counter->base = base;
        counter->code_bytes = code_bytes;
        counter->marks = marks;
    }
    return counter;
}

void counter_delete(Counter *counter)
{
    free(counter);
}

void counter_reset(Counter *counter)
{
    memset(counter->blocks, 0, sizeof counter->blocks);
    counter->region = counter->used = counter->overflowed = 0;
    counter->last = NULL;
}

void counter_block(void *machine, uint64_t address, uint32_t size, void *user)
{
    Counter *counter = user;
    uint32_t at = (uint32_t)address, halfword = (at - counter->base) >> 1, slot;
    Block *block;
    (void)machine;
    if (counter->last != NULL && at != counter->expected) {
        counter->last->taken++;
    }
    if (halfword < counter->code_bytes >> 1 && counter->marks[halfword] != 0) {
        counter->region = counter->marks[halfword] - 1u;
    }
    slot = (at * 0x9E3779B1u ^ size * 0x85EBCA77u ^ counter->region * 0xC2B2AE3Du) >> 16;
    for (;;) {
        block = &counter->blocks[slot];
        if (block->executed == 0) {
            if (counter->used >= SLOTS / 2) {
                counter->overflowed = 1;
                return;
            }
            counter->used++;
            block->address = at;
            block->size = size;
            block->region = counter->region;
            break;
        }
        if (block->address == at && block->size == size && block->region == counter->region) {
            break;
        }
        slot = (slot + 1) & (SLOTS - 1);
    }
    block->executed++;
    counter->last = block;
    counter->expected = at + size;
}

/* Copies the blocks that ran; the last one was left by a branch to where the emulation ends. Returns how many. */
uint32_t counter_read(const Counter *counter, Block *into)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const Block *block = &counter->blocks[slot];
        if (block->executed != 0) {
            into[count] = *block;
            into[count++].taken += block == counter->last;
        }
    }
    return count;
}

uint32_t counter_overflowed(const Counter *counter)
{
    return counter->overflowed;
}
