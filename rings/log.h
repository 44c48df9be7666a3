/* log.h - the log of pvio's programs: one line an event, to stderr. Internal; not installed.
 *
 * The hot path never logs, it counts. What a peer can cause has a budget a peer (XSA-157), and a peer's words are made
 * printable, so that they cannot look like lines of ours.
 */
#ifndef PV_LOG_H
#define PV_LOG_H

#include <stddef.h>
#include <stdint.h>

enum pv_log_level { PV_LOG_ERR, PV_LOG_WARN, PV_LOG_INFO, PV_LOG_DEBUG };

extern const char *const pv_log_names[]; /* "err", "warn", "info", "debug", NULL: for pv_option_name */

/* Begin: the program's name in front of each line, and the most talkative level shown. Before threads start. */
void pv_log_open(const char *program, enum pv_log_level shown);
enum pv_log_level pv_log_shown(void);

/* One line, in one write. Any thread. */
void pv_log(enum pv_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The budget of one peer: a burst of 10 lines, then one a second. Zeroed to begin with. Owner: one thread. */
struct pv_log_peer {
	uint64_t full_at; /* ns: when the budget is whole again */
	unsigned dropped;
};

/* As pv_log, if the peer has budget left; what it lost is counted and said with its next line. */
void pv_log_about(struct pv_log_peer *peer, enum pv_log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* For functions that explain a failure to their caller: fill why (which may be NULL) and return err. */
int pv_why(char *why, size_t len, int err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
