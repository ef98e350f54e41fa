/* Start-up of an image: from reset to main. Clocks, boot stages and interrupts of the device are not its matter. */
#include <stdint.h>

/* Set by the link script. */
extern uint32_t leanedge_stack_bottom[], leanedge_stack_top[];
extern uint32_t leanedge_data_begin[], leanedge_data_end[], leanedge_data_in_flash[];
extern uint32_t leanedge_bss_begin[], leanedge_bss_end[];

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);

typedef void (*Handler)(void);

/* Exceptions of the core (Armv7-M Architecture Reference Manual, B1.5.2); the device's interrupts stay off. */
__attribute__((section(".vectors"), used)) static const Handler vectors[16] = {
    (Handler)(void *)leanedge_stack_top,
    Reset_Handler,
    Fault_Handler, /* NMI */
    Fault_Handler, /* HardFault */
    Fault_Handler, /* MemManage */
    Fault_Handler, /* BusFault */
    Fault_Handler, /* UsageFault */
    Fault_Handler, /* SecureFault */
    0,
    0,
    0,
    Fault_Handler, /* SVCall */
    Fault_Handler, /* DebugMonitor */
    0,
    Fault_Handler, /* PendSV */
    Fault_Handler, /* SysTick */
};

/* Where a debugger finds that something went wrong; the frame on the stack says where. */
__attribute__((naked)) void Fault_Handler(void)
{
    __asm__("1: b 1b");
}

__attribute__((noreturn)) void Reset_Handler(void)
{
    uint32_t *stack_pointer;
#if defined(__ARM_FP)
    /* CPACR: full access to the FPU, before anything can use its registers. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    /* Unused stack holds a pattern, so that the most that was ever used can be read off. */
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    for (volatile uint32_t *at = leanedge_stack_bottom; at < stack_pointer; at++) {
        *at = 0x5AFE57ACu;
    }
    {
        const volatile uint32_t *from = leanedge_data_in_flash;
        for (volatile uint32_t *to = leanedge_data_begin; to < leanedge_data_end; to++) {
            *to = *from++;
        }
    }
    for (volatile uint32_t *at = leanedge_bss_begin; at < leanedge_bss_end; at++) {
        *at = 0;
    }
    (void)main();
    for (;;) {
    }
}
