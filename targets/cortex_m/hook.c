/* Counts how often each block of an emulated program is executed, and how often it is left by a taken branch; where
 * asked for, also what caches in front of flash miss, and accesses that are not aligned.
 *
 * Hooks of the unicorn emulator, called from its translated code: compiled for the host, loaded by ctypes.
 * A block is known by (address, size, region). `region` changes when a block begins at one of the marks: it tells which
 * layer a shared function runs for. An array of marks, one for each halfword of the code, makes that one load.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { SLOTS = 1 << 16, REGIONS = 4096, CROOKED = 64, IT_BITS = 0x0600FC00 };

/* An access to an address that is no multiple of its size. */
typedef struct {
    uint32_t code, address, bytes;
} Crooked;

/* Ways of a set stand side by side, the one used last first. A tag is the line's number + 1; 0 is empty. */
typedef struct {
    uint32_t *tags;
    uint32_t sets, ways, line_bytes;
} Cache;

/* Reads of flash that no cache had: code that follows what ran before, code that was jumped to, data. */
typedef struct {
    uint64_t next, jump, data;
} Misses;

typedef struct {
    uint64_t executed, taken;
    uint32_t address, size, region, padding;
} Block;

/* uc_reg_read and uc_reg_write */
typedef int (*RegisterAccess)(void *machine, int which, void *value);

typedef struct {
    uint32_t region, used, overflowed, base, code_bytes, expected;
    uint32_t flash_begin, flash_end, last_code_line, last_data_line;
    Block *last;
    Cache *code_cache, *data_cache;
    RegisterAccess read_register, write_register;
    int status_register, code_register;
    uint32_t crooked_count;
    Crooked crooked[CROOKED];
    Misses misses[REGIONS];
    const uint16_t *marks; /* region + 1 for each halfword from `base`, 0 where none begins */
    Block blocks[SLOTS];
} Counter;

EXPORT Counter *counter_new(uint32_t base, uint32_t code_bytes, const uint16_t *marks);
EXPORT void counter_delete(Counter *counter);
EXPORT void counter_reset(Counter *counter);
EXPORT void counter_block(void *machine, uint64_t address, uint32_t size, void *user);
EXPORT uint32_t counter_read(const Counter *counter, Block *into);
EXPORT uint32_t counter_overflowed(const Counter *counter);
EXPORT void counter_watch_flash(Counter *counter, uint32_t begin, uint32_t end, Cache *code_cache, Cache *data_cache);
EXPORT void counter_give_registers(Counter *counter, RegisterAccess read, RegisterAccess write, int status,
                                     int code);
EXPORT void counter_access(void *machine, int kind, uint64_t address, int bytes, int64_t value, void *user);
EXPORT uint32_t counter_crooked(const Counter *counter, Crooked *into);
EXPORT void counter_misses(const Counter *counter, uint32_t region, Misses *into);

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
    memset(counter->misses, 0, sizeof counter->misses);
    counter->last_code_line = counter->last_data_line = UINT32_MAX;
    counter->crooked_count = 0;
    memset(counter->blocks, 0, sizeof counter->blocks);
    counter->region = counter->used = counter->overflowed = 0;
    counter->last = NULL;
}

void counter_watch_flash(Counter *counter, uint32_t begin, uint32_t end, Cache *code_cache, Cache *data_cache)
{
    counter->flash_begin = begin;
    counter->flash_end = end;
    counter->code_cache = code_cache;
    counter->data_cache = data_cache;
}

void counter_give_registers(Counter *counter, RegisterAccess read, RegisterAccess write, int status,
                              int code)
{
    counter->read_register = read;
    counter->write_register = write;
    counter->status_register = status;
    counter->code_register = code;
}

/* Whether the line is there; it is afterwards. */
static int found(Cache *cache, uint32_t line)
{
    uint32_t *way = cache->tags + (line % cache->sets) * cache->ways, tag = line + 1, place = 0;
    int hit;
    while (place < cache->ways - 1 && way[place] != tag) {
        place++;
    }
    hit = way[place] == tag;
    memmove(way + 1, way, place * sizeof *way);
    way[0] = tag;
    return hit;
}

static void fetch(Counter *counter, uint32_t at, uint32_t size)
{
    Cache *cache = counter->code_cache;
    uint32_t line = at / cache->line_bytes, end = (at + size - 1) / cache->line_bytes;
    Misses *misses = &counter->misses[counter->region];
    for (; line <= end; line++) {
        if (line != counter->last_code_line) {
            if (!found(cache, line)) {
                *(line == counter->last_code_line + 1 ? &misses->next : &misses->jump) += 1;
            }
            counter->last_code_line = line;
        }
    }
}

/* Unicorn leaves the IT state of a load that is hooked in the core, where the code that comes next finds it. */
void counter_access(void *machine, int kind, uint64_t address, int bytes, int64_t value, void *user)
{
    Counter *counter = user;
    uint32_t at = (uint32_t)address, line, status = 0;
    (void)kind, (void)value;
    if (counter->read_register(machine, counter->status_register, &status) == 0 && (status & IT_BITS) != 0) {
        status &= ~(uint32_t)IT_BITS;
        counter->write_register(machine, counter->status_register, &status);
    }
    if ((at & ((uint32_t)bytes - 1u)) != 0 && counter->crooked_count < CROOKED) {
        Crooked *crooked = &counter->crooked[counter->crooked_count++];
        counter->read_register(machine, counter->code_register, &crooked->code);
        crooked->address = at;
        crooked->bytes = (uint32_t)bytes;
    }
    if (counter->data_cache == NULL || at - counter->flash_begin >= counter->flash_end - counter->flash_begin) {
        return;
    }
    line = at / counter->data_cache->line_bytes;
    if (line != counter->last_data_line) {
        counter->last_data_line = line;
        counter->misses[counter->region].data += !found(counter->data_cache, line);
    }
}

uint32_t counter_crooked(const Counter *counter, Crooked *into)
{
    memcpy(into, counter->crooked, counter->crooked_count * sizeof *into);
    return counter->crooked_count;
}

void counter_misses(const Counter *counter, uint32_t region, Misses *into)
{
    *into = counter->misses[region];
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
    if (counter->code_cache != NULL && at - counter->flash_begin < counter->flash_end - counter->flash_begin) {
        fetch(counter, at, size);
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
