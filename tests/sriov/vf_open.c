/* vf_open BDF [SECONDS] : use a function that is bound to vfio-pci as a hypervisor would: open its IOMMU group, map memory for its DMA, read its
 * configuration space, reset it; hold it open SECONDS. Prints vendor:device, or what failed. */
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int group_open(const char *bdf)
{
	char path[128], link[256], node[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		error(1, errno, "%s", path);
	link[n] = 0;
	snprintf(node, sizeof(node), "/dev/vfio/%.32s", strrchr(link, '/') + 1);
	fd = open(node, O_RDWR);
	if (fd < 0)
		error(1, errno, "%s", node);
	return fd;
}

static void attach(int container, int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, .iova = 1 << 20, .size = 1 << 16};
	void *memory = mmap(NULL, map.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	map.vaddr = (uintptr_t)memory;
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) || !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		error(1, errno, "its IOMMU group is not viable");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		error(1, errno, "its IOMMU group cannot be attached");
	if (memory == MAP_FAILED || ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		error(1, errno, "no memory could be mapped for DMA");
}

int main(int argc, char **argv)
{
	struct vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	int container = open("/dev/vfio/vfio", O_RDWR), group, device;
	uint16_t id[2];

	if (argc < 2)
		error(2, 0, "vf_open BDF [SECONDS]");
	group = group_open(argv[1]);
	attach(container, group);
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[1]);
	if (device < 0)
		error(1, errno, "%s cannot be opened", argv[1]);
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) || pread(device, id, sizeof(id), (off_t)config.offset) != sizeof(id))
		error(1, errno, "its configuration space cannot be read");
	if (ioctl(device, VFIO_DEVICE_RESET))
		error(1, errno, "it cannot be reset");
	printf("%04x:%04x\n", id[0], id[1]);
	fflush(stdout);
	if (argc > 2)
		sleep((unsigned)atoi(argv[2]));
	return 0;
}
