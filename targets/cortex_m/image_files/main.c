/* Waits for inputs in memory, runs the model, leaves its outputs there.
 *
 * Who drives it (an emulator, or a debugger on the board) reads `leanedge_mailbox` once the image waits: it writes the
 * inputs to where `inputs` point, adds 1 to `requested`, and reads the outputs when `finished` equals it.
 */
#include <stdint.h>
#include "{header}"

int main(void);
void leanedge_wait(void);

typedef struct {{
    volatile uint32_t requested, finished;
    void *inputs[{inputs}];
    const void *outputs[{outputs}];
}} Mailbox;

Mailbox leanedge_mailbox;
{declarations}

__attribute__((noinline)) void leanedge_wait(void)
{{
    while (leanedge_mailbox.requested == leanedge_mailbox.finished) {{
    }}
}}

int main(void)
{{
{setup}
{pointers}
    for (;;) {{
        leanedge_wait();
        {invoke}
        leanedge_mailbox.finished++;
    }}
}}
