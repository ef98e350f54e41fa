"""CPUs as boards show them in /proc/cpuinfo and sysfs; the shipped ones are in the device profiles."""

from leanedge.targets._linux.board import Emulator

KB = 1024
_BASE = ("fp", "asimd", "evtstrm", "crc32", "cpuid")
_NEWER = ("fp", "asimd", "evtstrm", "aes", "crc32", "atomics", "fphp", "asimdhp", "cpuid", "asimdrdm", "asimddp")

CORTEX_A53 = Emulator(
    "cortex-a53", 4, "0x41", "8", "0x0", "0xd03", "4", _BASE, 32 * KB, 32 * KB, 512 * KB, None, 1_400_000_000
)
CORTEX_A72 = Emulator(
    "cortex-a72", 4, "0x41", "8", "0x0", "0xd08", "3", _BASE, 32 * KB, 48 * KB, 1024 * KB, None, 1_500_000_000
)
CORTEX_A76 = Emulator(
    "cortex-a76", 4, "0x41", "8", "0x4", "0xd0b", "1", _NEWER, 64 * KB, 64 * KB, 512 * KB, 2048 * KB, 2_400_000_000
)
