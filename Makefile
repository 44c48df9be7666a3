# pvio. make help lists the targets. Everything built goes below build/; nothing else is written.
.DEFAULT_GOAL := all
SHELL := /bin/bash
VERSION := 0.1.0
SOVERSION := 0
PREFIX ?= /usr/local
DESTDIR ?=

# The one list of Debian packages: to build, run and test; and what `make bench` needs besides.
DEPS := gcc make pkg-config libc6-dev libxen-dev libdpdk-dev dpdk-dev liburing-dev libjson-c-dev libuv1-dev uthash-dev libcmocka-dev \
	libmnl-dev libnbd-dev scdoc e2fsprogs iproute2 iputils-ping iperf3 procps util-linux jq python3 tshark clang libclang-rt-14-dev spin
# What the labs tests/xen and tests/sriov need besides; where it cannot be had, their scenarios are skipped.
XEN_DEPS := qemu-system-x86 busybox-static cpio xz-utils kmod binutils ethtool strace
# What tests/integration/test_uplink_ovs.sh needs besides; without it that is skipped.
OVS_DEPS := openvswitch-switch-dpdk
# What the fio engine and the nbdkit plugin are built from and tested with; without it they are not.
PLUGIN_DEPS := fio dpkg-dev nbdkit nbdkit-plugin-dev libnbd-bin qemu-utils
# For rbd: images; where it cannot be had, pvio-blkback is built without them.
CEPH_DEPS := librbd-dev
# What tests/integration/test_images_nbd_* need besides; without it those are skipped.
IMAGE_DEPS := nbdkit qemu-utils xz-utils
BENCH_DEPS := fio nbdkit qemu-system-common xen-utils-4.17 libxenstore4 xenstore-utils

# ---- flags; SAN=address,undefined or SAN=thread with a B of its own builds an instrumented tree
B ?= build
SAN ?=
CC ?= gcc
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers -Werror
# Instrumented trees are compiled in half the time so; a fuzzer's inputs a second matter more.
CFLAGS ?= $(if $(SAN),$(if $(findstring fuzzer,$(SAN)),-O2,-O1) -g1,-O2 -g)
# Copies of at most a page are libc's too: gcc's own `rep movs` halves what a guest sends
COPY := $(shell $(CC) -mstringop-strategy=libcall -E -x c /dev/null >/dev/null 2>&1 && echo -mstringop-strategy=libcall)
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) $(COPY) -fPIC -fno-semantic-interposition -fno-strict-aliasing -D_GNU_SOURCE -DPVIO_VERSION='"$(VERSION)"' -I$(B)/include -MMD -MP $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
ALL_LDFLAGS = $(LDFLAGS) -pthread $(if $(SAN),-fsanitize=$(SAN))
pc = $(shell pkg-config $(1) $(2) 2>/dev/null)
JSON_L = $(call pc,--libs,json-c)
DPDK_C = $(call pc,--cflags,libdpdk)
DPDK_L = $(call pc,--libs,libdpdk)
XENCTRL_L := -lxenguest -lxenctrl -lxentoollog -lxenstore # pviod's alone
XEN_L := -Wl,--as-needed -lxengnttab -lxenevtchn # libpvio's; last on each line

# ---- what is built from what
# what pvio's own programs share and nobody else sees
INTERNAL := rpc rpc_socket message devid backend backend_port inflight front pipe pipe_link worker options limit privileges log text words
INTERNAL_SRC := $(INTERNAL:%=rings/%.c)
LIBPVIO_SRC := $(filter-out $(INTERNAL_SRC) rings/pvio-hub.c,$(wildcard rings/*.c))
DD_SRC := $(wildcard frontends/dd_*.c)
PLUGIN_SRC := frontends/fio_pvio.c frontends/nbdkit_pvio.c
LIBFRONT_SRC := $(filter-out frontends/pvio-%.c $(DD_SRC) $(PLUGIN_SRC),$(wildcard frontends/*.c))
FRONT_PROGS := $(patsubst frontends/%.c,$(B)/%,$(wildcard frontends/pvio-*.c))
PVIO_SRC := $(wildcard dom0-tools/pvio.c dom0-tools/cmd_*.c) netback/rules_parse.c # pvio rules check
LIBTOOL_SRC := $(wildcard dom0-tools/libpvtool.c)
LIBSRIOV_SRC := $(filter-out sriov/pvio-%.c,$(wildcard sriov/*.c))
PVIOD_SRC := $(filter-out $(PVIO_SRC) $(LIBTOOL_SRC),$(wildcard dom0-tools/*.c))
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
lib_of = $(call obj,$(filter-out %/main.c,$(1))) # a program less its main(): for the tests

LIBS := $(B)/libpvfront.a $(B)/libpvsriov.a $(B)/libpvtool.a $(B)/libpvinternal.a $(B)/libpvio.a # users before used
PROGS := $(B)/pvio-hub $(B)/pviod $(B)/pvio $(B)/pvio-blkback $(B)/pvio-netback $(B)/pvio-pciback $(FRONT_PROGS)
# Plugins of others' programs: as far as there are headers (make fio-headers), and not instrumented.
FIO_SRC ?= build/fio-src/fio
NBDKIT_DIR := $(call pc,--variable=plugindir,nbdkit)
PLUGINS := $(if $(SAN),,$(if $(wildcard $(FIO_SRC)/config-host.h),$(B)/pvio-fio.so) $(if $(NBDKIT_DIR),$(B)/nbdkit-pvio-plugin.so))
PERF := $(patsubst perf/%.c,$(B)/perf/%,$(filter-out perf/xenstored_shim.c,$(wildcard perf/*.c))) $(B)/perf/xenstored_shim.so
MAN := $(patsubst %.scd,$(B)/man/%,$(notdir $(wildcard */*.1.scd */*.5.scd */*.8.scd)))
vpath %.scd rings blkback netback frontends sriov dom0-tools perf

.PHONY: all
all: $(B)/libpvio.so $(LIBS) $(PROGS) $(PLUGINS) $(MAN)

# <pvio/x.h> in the tree is what it is when installed
$(B)/include/.linked: $(wildcard rings/*.h frontends/*.h dom0-tools/libpvtool.h)
	@mkdir -p $(@D)/pvio && ln -sf $(addprefix $(CURDIR)/,$^) $(@D)/pvio/ && touch $@
$(B)/obj/%.o: %.c | $(B)/include/.linked ; @mkdir -p $(@D) && echo "  CC $<" && $(CC) $(ALL_CFLAGS) $(X_CFLAGS) -c $< -o $@
$(B)/obj/netback/%.o: X_CFLAGS = $(DPDK_C)
$(B)/obj/tests/%.o: X_CFLAGS = -I. $(if $(findstring netback,$<),$(DPDK_C))

$(B)/libpvio.a: $(call obj,$(LIBPVIO_SRC))
$(B)/libpvinternal.a: $(call obj,$(INTERNAL_SRC))
$(B)/libpvfront.a: $(call obj,$(LIBFRONT_SRC))
$(B)/libpvtool.a: $(call obj,$(LIBTOOL_SRC))
$(B)/libpvsriov.a: $(call obj,$(LIBSRIOV_SRC))
$(B)/libblkback.a: $(call lib_of,$(wildcard blkback/*.c))
$(B)/libnetback.a: $(call lib_of,$(wildcard netback/*.c))
$(B)/libpviod.a: $(call lib_of,$(PVIOD_SRC))
%.a: ; @rm -f $@ && ar rcs $@ $^
$(B)/libpvio.so: $(call obj,$(LIBPVIO_SRC)) rings/libpvio.map
	@$(CC) -shared $(filter %.o,$^) -Wl,-soname,libpvio.so.$(SOVERSION) -Wl,--version-script=rings/libpvio.map $(ALL_LDFLAGS) $(XEN_L) -o $@

link = @mkdir -p $(@D) && echo "  LD $@" && $(CC) $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) $(X_LIBS) $(XEN_L) -o $@
$(B)/pvio-hub: $(call obj,rings/pvio-hub.c) $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/pviod: $(call obj,$(PVIOD_SRC)) $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/pviod: X_LIBS = $(JSON_L) -luv $(XENCTRL_L)
$(B)/pvio: $(call obj,$(PVIO_SRC)) $(B)/libpvsriov.a $(B)/libpvtool.a $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/pvio: X_LIBS = $(JSON_L) -lmnl
$(B)/pvio-blkback: $(call obj,$(wildcard blkback/*.c)) $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/pvio-blkback: X_LIBS = $(JSON_L) -luring -lnbd
$(B)/pvio-netback: $(call obj,$(wildcard netback/*.c)) $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/pvio-netback: X_LIBS = $(JSON_L) $(DPDK_L) -lmnl
$(B)/pvio-pciback: $(call obj,sriov/pvio-pciback.c) $(B)/libpvsriov.a $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/pvio-pciback: X_LIBS = $(JSON_L) -lmnl -lxenctrl -lxentoollog
$(B)/pvio-dd: $(call obj,$(DD_SRC))
$(FRONT_PROGS): $(B)/pvio-%: $(B)/obj/frontends/pvio-%.o $(B)/libpvfront.a $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/obj/frontends/fio_pvio.o: X_CFLAGS = -isystem $(FIO_SRC)
$(B)/pvio-fio.so: $(B)/obj/frontends/fio_pvio.o
$(B)/nbdkit-pvio-plugin.so: $(B)/obj/frontends/nbdkit_pvio.o
$(B)/pvio-fio.so $(B)/nbdkit-pvio-plugin.so: $(B)/libpvfront.a $(B)/libpvinternal.a $(B)/libpvio.a frontends/plugin.map ; $(link)
$(B)/pvio-fio.so $(B)/nbdkit-pvio-plugin.so: X_LIBS = -shared -Wl,--version-script=frontends/plugin.map
$(B)/perf/%: $(B)/obj/perf/%.o $(LIBS) ; $(link)
$(B)/perf/%: X_LIBS = $(JSON_L) -luring
$(B)/perf/pmd: X_LIBS = $(DPDK_L)
$(B)/obj/perf/pmd.o: X_CFLAGS = $(DPDK_C)
$(B)/obj/perf/rules.o: X_CFLAGS = -I. $(DPDK_C)
$(B)/perf/rules: $(B)/libnetback.a
$(B)/perf/rules: X_LIBS = $(B)/libnetback.a $(B)/libpvinternal.a $(B)/libpvio.a $(JSON_L) $(DPDK_L) -lmnl
$(B)/perf/xenstored_shim.so: $(B)/obj/perf/xenstored_shim.o ; $(link)
$(B)/perf/xenstored_shim.so: X_LIBS = -shared
$(B)/perf/xenstored_shim.so: override SAN = # it goes into Debian's xenstored
$(B)/man/%: %.scd ; @mkdir -p $(@D) && scdoc < $< > $@

# ---- tests: every tests/{unit,hostile}/test_*.c is a program of its own, linked with all libraries
TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c tests/hostile/test_*.c))
TSAN_TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_ring*.c tests/unit/test_noxs*.c tests/unit/test_handshake*.c tests/unit/test_pipe*.c))
$(B)/tests/%: $(B)/obj/tests/%.o $(B)/libpviod.a $(B)/libblkback.a $(B)/libnetback.a $(LIBS) ; $(link)
$(B)/tests/%: X_LIBS = -lcmocka $(JSON_L) -luring -lnbd -luv -lmnl $(XENCTRL_L) $(if $(findstring netback,$@),$(DPDK_L))
.PHONY: tests tsan-tests perf
$(B)/tests/fake/librbd.so.1: $(B)/obj/tests/unit/fake_rbd.o ; $(link)
$(B)/tests/fake/librbd.so.1: X_LIBS = -shared -Wl,-soname,librbd.so.1
LAB := $(patsubst %.c,$(B)/%,$(wildcard tests/sriov/*.c)) # for the emulated machine of tests/sriov
$(LAB): $(B)/tests/sriov/%: $(B)/obj/tests/sriov/%.o ; $(link)
$(LAB): X_LIBS = -lmnl
# the fio engine as a stock guest's kernel finds its vbds
FIO_XENBUS := $(if $(filter %/pvio-fio.so,$(PLUGINS)),$(B)/tests/fake/pvio-fio-xenbus.so)
$(B)/tests/fake/pvio-fio-xenbus.so: $(call obj,frontends/fio_pvio.c tests/integration/front_xenbus.c) $(LIBS) frontends/plugin.map ; $(link)
$(B)/tests/fake/pvio-fio-xenbus.so: X_LIBS = -shared -Wl,--version-script=frontends/plugin.map -lcmocka
# ... and pvio-tap its vif
$(B)/tests/fake/pvio-tap-xenbus: $(call obj,frontends/pvio-tap.c tests/integration/front_xenbus.c) $(LIBS) ; $(link)
$(B)/tests/fake/pvio-tap-xenbus: X_LIBS = -lcmocka
tests: $(TESTS) $(LAB) $(B)/tests/fake/librbd.so.1 $(FIO_XENBUS) $(B)/tests/fake/pvio-tap-xenbus $(B)/perf/xenstored_shim.so
tsan-tests: $(TSAN_TESTS)
perf: $(PERF)

# fuzzers, in a tree of their own: make B=build/fuzz CC=clang WARN=-w SAN=fuzzer-no-link,address,undefined fuzzers
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/obj/tests/fuzz/%.o: X_CFLAGS = -I. $(DPDK_C)
$(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/libblkback.a $(B)/libnetback.a $(B)/libpvinternal.a $(B)/libpvio.a ; $(link)
$(B)/tests/fuzz/%: X_LIBS = -fsanitize=fuzzer $(JSON_L) $(DPDK_L) -lmnl -luring -lnbd
$(B)/tests/fuzz/fuzz_store: $(call obj,$(wildcard dom0-tools/store_*.c))
$(B)/tests/fuzz/fuzz_pciif: $(call obj,sriov/pci.c sriov/pci_conf.c)
.PHONY: fuzzers
fuzzers: $(FUZZERS)

.PHONY: deps xen-deps ovs-deps plugin-deps fio-headers image-deps ceph-deps check check-long check-xen check-sriov run bench install clean help
deps: ; @tests/deps $(DEPS)
xen-deps: ; @tests/deps $(XEN_DEPS) || echo 'without these the scenarios of tests/xen and tests/sriov are skipped'
ovs-deps: ; @tests/deps $(OVS_DEPS) || echo 'without these the test with Open vSwitch is skipped'
plugin-deps: ; @tests/deps $(PLUGIN_DEPS) || echo 'without these there is no fio engine and no nbdkit plugin'
fio-headers: plugin-deps ; @[ -e $(FIO_SRC)/config-host.h ] || frontends/fio-headers $(dir $(FIO_SRC)) || true
ceph-deps: ; @tests/deps $(CEPH_DEPS) || echo 'without these there are no rbd: images'
image-deps: ; @tests/deps $(IMAGE_DEPS) || echo 'without these tests of images behind NBD servers are skipped'
check: deps xen-deps ovs-deps plugin-deps fio-headers image-deps ceph-deps ; @$(MAKE) --no-print-directory all tests perf && tests/check
check-xen: deps xen-deps ; @$(MAKE) --no-print-directory all tests perf && B=$(B) tests/xen/check --all
check-sriov: deps xen-deps ; @$(MAKE) --no-print-directory all tests && B=$(B) tests/sriov/check --all
check-long: deps xen-deps ovs-deps plugin-deps fio-headers image-deps ceph-deps ; @$(MAKE) --no-print-directory all tests perf && tests/check --long
run: deps ; @$(MAKE) --no-print-directory all perf && tests/integration/main_job.sh
bench: deps ; @tests/deps $(BENCH_DEPS) && $(MAKE) --no-print-directory all perf && perf/bench

# What others link with: of the static libraries only the public names stay visible.
PUBLIC_H := $(addprefix rings/,blk.h gnt_cache.h hub.h hyper.h net.h noxs.h ring.h) frontends/netfront.h frontends/pair.h frontends/blkfront.h dom0-tools/libpvtool.h
PC := rings/libpvio.pc.in frontends/libpvfront.pc.in dom0-tools/libpvtool.pc.in
UNITS := $(wildcard dom0-tools/systemd/*.service.in frontends/scripts/*.service.in)
$(B)/install/libpvfront.a: $(call obj,$(filter-out frontends/blkio.c,$(LIBFRONT_SRC)) rings/front.c rings/devid.c)
$(B)/install/libpvfront.a: KEEP := pv_netfront_* pv_netpair_* pv_blkfront_*
$(B)/install/libpvtool.a: $(call obj,$(LIBTOOL_SRC) rings/rpc.c rings/rpc_socket.c rings/message.c rings/devid.c rings/text.c)
$(B)/install/libpvtool.a: KEEP := pv_tool_*
$(B)/install/%.a: ; @mkdir -p $(@D) && ld -r $^ -o $(@:.a=.o) && objcopy -w $(foreach k,$(KEEP),-G '$k') $(@:.a=.o) && rm -f $@ && ar rcs $@ $(@:.a=.o)

install: all perf $(B)/install/libpvfront.a $(B)/install/libpvtool.a
	install -d $(DESTDIR)$(PREFIX)/{bin,lib/pkgconfig,lib/pvio/perf,lib/systemd/system,include/pvio,share/man/man1,share/man/man5,share/man/man8}
	install -m755 $(PROGS) $(DESTDIR)$(PREFIX)/bin/
	install -m755 perf/bench $(DESTDIR)$(PREFIX)/bin/pvio-bench
	install -m755 $(PERF) $(DESTDIR)$(PREFIX)/lib/pvio/perf/
	if [ -e $(B)/pvio-fio.so ]; then install -m644 $(B)/pvio-fio.so $(DESTDIR)$(PREFIX)/lib/pvio/; fi
	if [ -e $(B)/nbdkit-pvio-plugin.so ]; then install -d $(DESTDIR)$(NBDKIT_DIR) && install -m644 $(B)/nbdkit-pvio-plugin.so $(DESTDIR)$(NBDKIT_DIR)/; fi
	install -m755 $(B)/libpvio.so $(DESTDIR)$(PREFIX)/lib/libpvio.so.$(VERSION)
	ln -sf libpvio.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libpvio.so.$(SOVERSION)
	ln -sf libpvio.so.$(SOVERSION) $(DESTDIR)$(PREFIX)/lib/libpvio.so
	install -m644 $(B)/libpvio.a $(B)/install/libpvfront.a $(B)/install/libpvtool.a $(DESTDIR)$(PREFIX)/lib/
	install -m644 $(PUBLIC_H) $(DESTDIR)$(PREFIX)/include/pvio/
	for p in $(PC); do sed 's,@PREFIX@,$(PREFIX),;s,@VERSION@,$(VERSION),' $$p > $(DESTDIR)$(PREFIX)/lib/pkgconfig/$$(basename $$p .in); done
	for m in $(MAN); do install -m644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/; done
	install -d $(DESTDIR)/etc/xen/scripts
	for s in block-pvio vif-pvio; do sed 's,@PREFIX@,$(PREFIX),' dom0-tools/scripts/pvio-hotplug.in > $(DESTDIR)/etc/xen/scripts/$$s; \
		chmod 755 $(DESTDIR)/etc/xen/scripts/$$s; done
	install -m755 frontends/scripts/pvio-bond $(DESTDIR)$(PREFIX)/bin/
	install -d $(DESTDIR)$(PREFIX)/lib/udev/rules.d
	sed 's,@PREFIX@,$(PREFIX),' frontends/scripts/90-pvio-bond.rules.in > $(DESTDIR)$(PREFIX)/lib/udev/rules.d/90-pvio-bond.rules
	for u in $(UNITS); do sed 's,@PREFIX@,$(PREFIX),' $$u > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename $$u .in); done

clean: ; rm -rf build
help:
	@echo 'make run         install what is missing, build, and do the main job on the loopback hypervisor'
	@echo 'make check       every test that this machine can run'
	@echo 'make check-long  the same with fuzzers at length, storms and many kills'
	@echo 'make check-xen   every scenario on real Xen, under QEMU'
	@echo 'make check-sriov  every scenario of virtual functions on an emulated NIC and NVMe disk, under QEMU'
	@echo 'make bench       ours and its peers, measured side by side'
	@echo 'make fio-headers  what the fio engine is built with, from the source of fio in Debian; then make all'
	@echo 'make all deps install clean'

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
.SECONDARY:
