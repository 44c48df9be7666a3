/* pipe_link.h - a backend in a driver domain: its way to pviod, through the first free pipe of the domain.
 *
 * A thread with a hypervisor handle of its own finds a pipe, connects it, and moves bytes between its page and a socket, whose other
 * end pv_pipe_link_accept gives out. When the pipe is lost that socket ends, and the thread looks for a pipe again: a backend
 * sees what it would see of a Unix socket. Internal to pvio; not installed.
 */
#ifndef PV_PIPE_LINK_H
#define PV_PIPE_LINK_H

struct pv_pipe_link;

/* Start. hypervisor (borrowed until stop), domid: as for pv_hyper_open. Returns 0 or -errno. */
int pv_pipe_link_start(const char *hypervisor, int domid, struct pv_pipe_link **out);

/* A descriptor that is readable while pv_pipe_link_accept has something to give. */
int pv_pipe_link_fd(const struct pv_pipe_link *l);

/* A connection to pviod: a non-blocking stream socket, the caller's to close; -EAGAIN: there is none (yet). */
int pv_pipe_link_accept(struct pv_pipe_link *l);

/* End the conversation in order, then the thread. NULL is fine. */
void pv_pipe_link_stop(struct pv_pipe_link *l);

#endif
