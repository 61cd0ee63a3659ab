// Static probes (USDT) for tracers such as bpftrace and perf: a nop each until one is traced, and a note in the binary that says where it is and
// where its arguments are then. docs/probes.md lists them. Arguments are integers and pointers that are at hand: what would have to be
// computed for a probe is not one. Without <sys/sdt.h> (option STORE_USDT) they are nothing.
#pragma once

#ifdef STORE_USDT
#define SDT_USE_VARIADIC
#include <sys/sdt.h>

#define STORE_PROBE(name, ...) STAP_PROBEV(store, name, __VA_ARGS__)
#else
#define STORE_PROBE(name, ...) static_cast<void>(0)
#endif
