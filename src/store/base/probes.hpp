// Static probes (USDT) for tracers such as bpftrace and perf: a nop each until one is traced, and a note in the binary that says where it is and
// where its arguments are then. docs/probes.md lists them. Arguments are integers and pointers that are at hand: what would have to be
// computed for a probe is not one. Without <sys/sdt.h> (option STORE_USDT) they are nothing.
#pragma once

#ifdef STORE_USDT
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#if !defined(__clang__)
// g++ takes each line of an asm for an instruction, and a probe has forty lines of directives: functions around it would not be inlined any more,
// which made a cached get 5 % slower. This is `asm inline`: as short as one instruction.
#define __volatile__ __volatile__ __inline__
#endif

#define STORE_PROBE(name, ...) STAP_PROBEV(store, name, __VA_ARGS__)
#else
#define STORE_PROBE(name, ...) static_cast<void>(0)
#endif
