/* words.h - files of statements, one a line, of words: the reader that they share. `#` begins a comment; an error has its exact place,
 * "LINE:COLUMN: what is wrong, and what may be there". Pure. Internal to pvio's programs; not installed. */
#ifndef PV_WORDS_H
#define PV_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PV_WORD_MAX = 64 };

struct pv_words {
	const char *end, *at;
	const char *line_at; /* where the line began */
	unsigned line; /* from 1 */
	const char *word_at; /* where the word read last began */
	char word[PV_WORD_MAX + 1];
	char *why;
	size_t why_len;
};

/* Begin with the text, which is borrowed. */
void pv_words_open(struct pv_words *w, const char *text, size_t len, char *why, size_t why_len);
bool pv_words_line(struct pv_words *w); /* go to the next line, at first to line 1; false: there is none */
/* The next word of the line. Returns 1, 0 at the end of the line (word_at is there), or -EINVAL. */
int pv_words_next(struct pv_words *w);
/* The next word, which must be there; after, what: for the message. Returns 0 or -EINVAL. */
int pv_words_want(struct pv_words *w, const char *after, const char *what);

/* Fill why. Returns -EINVAL. */
int pv_words_fail_at(struct pv_words *w, const char *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define pv_words_fail(w, ...) pv_words_fail_at(w, (w)->word_at, __VA_ARGS__) /* at the word read last */

/* The word is a name of letters, digits and - _ . of at most max characters; what: whose. Returns 0 or -EINVAL. */
int pv_words_name(struct pv_words *w, const char *what, size_t max);
int pv_words_mac(struct pv_words *w, uint8_t mac[6]); /* the word is a MAC address */

/* A number in [min, max] from *s on, decimal or 0x. Moves *s behind it. Returns 0 or -EINVAL. */
int pv_words_number(const char **s, uint64_t min, uint64_t max, uint64_t *out);
int pv_words_whole_number(const char *s, uint64_t min, uint64_t max, uint64_t *out); /* ... and nothing behind it */
int pv_words_find(const char *const *names, const char *name); /* index into names, which end with NULL, or -1 */

#endif
