/* A plugin for qemu-aarch64 that counts the instructions which the guest executes between two marks.
 *
 * A mark is a system call by a number that Linux does not have, START or STOP (the compiler is given both): the guest
 * gets ENOSYS and goes on. At STOP a line with the instructions since START goes to the emulator's log (-d plugin -D).
 *
 * Debian packages no qemu-plugin.h, so what is used of version 1 of the interface (QEMU 4.2 to 8.2) is declared here.
 * The sum of all threads is kept, without locks: the guest must have one that works.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct qemu_plugin_tb; /* a run of instructions that is entered at its first and left at its last */

typedef void (*on_translation)(uint64_t plugin, struct qemu_plugin_tb *block);
typedef void (*on_system_call)(uint64_t plugin, unsigned int cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t, uint64_t, uint64_t);

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, on_translation callback);
extern void qemu_plugin_register_vcpu_syscall_cb(uint64_t plugin, on_system_call callback);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation, void *target,
                                                     uint64_t value);
extern void qemu_plugin_outs(const char *line);

enum { ADD_U64 = 0 }; /* QEMU_PLUGIN_INLINE_ADD_U64 */

int qemu_plugin_version = 1;

static uint64_t executed;
static uint64_t at_start;

static void count(uint64_t plugin, struct qemu_plugin_tb *block)
{
    (void)plugin;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void mark(uint64_t plugin, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                 uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)plugin, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == START) {
        at_start = executed;
    } else if (number == STOP) {
        char line[32];
        snprintf(line, sizeof line, "%" PRIu64 "\n", executed - at_start);
        qemu_plugin_outs(line);
    }
}

int qemu_plugin_install(uint64_t plugin, const void *about, int count_of_arguments, char **arguments)
{
    (void)about, (void)count_of_arguments, (void)arguments;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, count);
    qemu_plugin_register_vcpu_syscall_cb(plugin, mark);
    return 0;
}
