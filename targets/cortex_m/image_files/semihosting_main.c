/* Runs the model on inputs from a file of the host and writes its outputs to another, by Arm semihosting.
 *
 * For emulated boards whose memory is not the device's: the model and the start-up are those that ship.
 */
#include <stdint.h>
#include "{header}"

int main(void);
void leanedge_begin(void);
void leanedge_end(void);

{declarations}

enum {{ OPEN = 0x01, WRITE = 0x05, READ = 0x06, EXIT = 0x18, MODE_READ = 1, MODE_WRITE = 5 }};

static uint32_t host(uint32_t operation, const void *arguments)
{{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}}

static uint32_t open_file(const char *name, uint32_t length, uint32_t mode)
{{
    const uint32_t arguments[3] = {{(uint32_t)(uintptr_t)name, mode, length}};
    return host(OPEN, arguments);
}}

static void move_bytes(uint32_t operation, uint32_t file, const void *at, uint32_t bytes)
{{
    const uint32_t arguments[3] = {{file, (uint32_t)(uintptr_t)at, bytes}};
    (void)host(operation, arguments);
}}

/* What is executed between the first two is one inference. */
__attribute__((noinline)) void leanedge_begin(void)
{{
    __asm__ volatile("");
}}

__attribute__((noinline)) void leanedge_end(void)
{{
    __asm__ volatile("");
}}

int main(void)
{{
    const uint32_t from = open_file("inputs.bin", 10, MODE_READ), to = open_file("outputs.bin", 11, MODE_WRITE);
{setup}
    for (int n = 0; n < {runs}; n++) {{
{reads}
        leanedge_begin();
        {invoke}
        leanedge_end();
{writes}
    }}
    (void)host(EXIT, (const void *)0x20026);
    return 0;
}}
