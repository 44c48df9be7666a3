/* plan.c - from the segments of requests to I/O on the image. Pure: looks at nothing but its arguments. */
#include "blkback.h"

/* Of one merged I/O: what kernels ask for at once. Larger ones save little, and the kernel, which joins what is neighbours until it has the largest request that the disk takes (254 pages,
 * virtio's queue/max_segments), comes nearer to that with small ones: seven of 128 KiB, but three of 256 KiB. With 1016 KiB 128 KiB after 128 KiB were written at 0.7 to 0.9 of the rate. */
enum { PLAN_BYTES_MAX = 32 * PV_PAGE_SIZE };

/* Append memory to an iovec array: what continues the last piece makes that longer. Returns the new count. */
static unsigned iov_append(struct iovec *iov, unsigned n, void *base, size_t len)
{
	if (n && (char *)iov[n - 1].iov_base + iov[n - 1].iov_len == base) {
		iov[n - 1].iov_len += len;
		return n;
	}
	iov[n] = (struct iovec){ .iov_base = base, .iov_len = len };
	return n + 1;
}

unsigned blkplan_iov(struct iovec *iov, const struct pv_blk_seg *segs, void *const *pages, unsigned n, uint64_t *bytes)
{
	unsigned used = 0;

	*bytes = 0;
	for (unsigned i = 0; i < n; i++) {
		size_t len = pv_blk_seg_bytes(&segs[i]);

		used = iov_append(iov, used, (char *)pages[i] + segs[i].first * PV_BLK_SECTOR, len);
		*bytes += len;
	}
	return used;
}

bool blkplan_join(struct image_io *head, const struct image_io *next, unsigned room)
{
	if (next->kind != head->kind || next->offset != head->offset + head->len)
		return false;
	if (head->niov + next->niov > room || head->len + next->len > PLAN_BYTES_MAX)
		return false;
	for (unsigned i = 0; i < next->niov; i++)
		head->niov = iov_append(head->iov, head->niov, next->iov[i].iov_base, next->iov[i].iov_len);
	head->len += next->len;
	return true;
}
