/* declare.c - from the text of a file to what is declared in it, or to the exact place of its first error.
 *
 *	pf NAME... vfs N [autoprobe on|off]	a PF; the lines below are about its VFs
 *	vf RANGE KEY VALUE...			settings; of two lines that say the same of a VF, the later one counts
 *	pool NAME RANGE				whom these are for */
#include "declare.h"
#include <errno.h>
#include <pvio/words.h>
#include <stdlib.h>
#include <string.h>

struct parser {
	struct pv_words w;
	struct vf_declared *d;
	struct vf_declared_pf *pf; /* of the last pf line; NULL: none yet */
	bool in[VF_VFS_MAX]; /* the VFs that this line is about */
};

/* At the word read last, or elsewhere in its line. */
#define fail(p, ...) pv_words_fail(&(p)->w, __VA_ARGS__)
#define fail_at(p, at, ...) pv_words_fail_at(&(p)->w, at, __VA_ARGS__)

static unsigned column(const struct parser *p)
{
	return (unsigned)(p->w.word_at - p->w.line_at) + 1;
}

/* ---- which VFs ---- */

static int number_of_vf(struct parser *p, const char **s, unsigned *out)
{
	const char *at = *s;
	uint64_t n;

	if (pv_words_number(s, 0, VF_VFS_MAX, &n) < 0)
		return fail_at(p, p->w.word_at + (at - p->w.word), "%s: give VFs such as 3, 0-6, 0,2-4, or all", p->w.word);
	if (n >= p->pf->nvfs)
		return fail_at(p, p->w.word_at + (at - p->w.word), "VF %u: the pf of line %u has %u VFs, from 0 on", (unsigned)n, p->pf->line, p->pf->nvfs);
	*out = (unsigned)n;
	return 0;
}

/* The word is a list of ranges: into p->in. Returns how many VFs these are, or an error. */
static int range(struct parser *p)
{
	const char *s = p->w.word;
	int nr = 0;

	memset(p->in, 0, sizeof(p->in));
	if (!strcmp(s, "all")) {
		memset(p->in, 1, p->pf->nvfs);
		return (int)p->pf->nvfs;
	}
	for (;; s++) {
		const char *at = s;
		unsigned first, last;

		if (number_of_vf(p, &s, &first) < 0)
			return -EINVAL;
		last = first;
		if (*s == '-' && (s++, number_of_vf(p, &s, &last) < 0))
			return -EINVAL;
		if (last < first)
			return fail_at(p, p->w.word_at + (at - p->w.word), "%u-%u: the first is behind the last", first, last);
		for (; first <= last; first++) {
			nr += !p->in[first];
			p->in[first] = true;
		}
		if (!*s)
			return nr;
		if (*s != ',')
			return fail_at(p, p->w.word_at + (s - p->w.word), "%s: give VFs such as 3, 0-6, 0,2-4, or all", p->w.word);
	}
}

/* A line about VFs has a pf above it. */
static int below_pf(struct parser *p, const char *what)
{
	return p->pf ? 0 : fail(p, "%s: no pf is above this line; begin with one such as pf 0000:01:00.0 vfs 4", what);
}

/* ---- pf ---- */

static int pf_called(struct parser *p, struct vf_declared_pf *pf)
{
	int ret;

	while ((ret = pv_words_next(&p->w)) > 0 && strcmp(p->w.word, "vfs")) {
		if (!strcmp(p->w.word, "every") && !pf->ncalled && !pf->every) {
			pf->every = true;
			continue;
		}
		if (pf->ncalled == VF_CALLED_MAX)
			return fail(p, "more than %d names of one PF", VF_CALLED_MAX);
		if (strlen(p->w.word) >= VF_NAME_MAX)
			return fail(p, "%s: no PF has so long a name", p->w.word);
		strcpy(pf->called[pf->ncalled++], p->w.word);
	}
	if (ret < 0)
		return ret;
	if (!pf->ncalled)
		return fail(p, "which PF? Give its address, netdev, vendor:device or port, such as pf 0000:01:00.0 vfs 4");
	return ret ? 0 : fail(p, "how many VFs? End the line with vfs and a number");
}

/* What may follow the number. */
static int pf_autoprobe(struct parser *p, struct vf_declared_pf *pf)
{
	int ret = pv_words_next(&p->w);

	if (ret <= 0)
		return ret;
	if (strcmp(p->w.word, "autoprobe"))
		return fail(p, "%s: nothing but autoprobe on or off may follow the number of VFs", p->w.word);
	if (pv_words_want(&p->w, "autoprobe", "on or off") < 0)
		return -EINVAL;
	pf->says_autoprobe = true;
	pf->autoprobe = !strcmp(p->w.word, "on");
	return pf->autoprobe || !strcmp(p->w.word, "off") ? 0 : fail(p, "autoprobe %s: it is on or off", p->w.word);
}

static int pf_line(struct parser *p)
{
	struct vf_declared *d = p->d;
	struct vf_declared_pf *pf;
	uint64_t n;

	if (d->npfs == VF_PFS_MAX)
		return fail(p, "more than %d PFs", VF_PFS_MAX);
	if (!d->pf)
		d->pf = calloc(VF_PFS_MAX, sizeof(*d->pf));
	if (!d->pf)
		return -ENOMEM;
	pf = p->pf = &d->pf[d->npfs++];
	*pf = (struct vf_declared_pf){ .line = p->w.line, .column = column(p) };
	if (pf_called(p, pf) < 0 || pv_words_want(&p->w, "vfs", "a number") < 0)
		return -EINVAL;
	if (pv_words_whole_number(p->w.word, 0, VF_VFS_MAX, &n) < 0)
		return fail(p, "%s: give a number of VFs, 0 to %d", p->w.word, VF_VFS_MAX);
	pf->nvfs = (unsigned)n;
	pf->vf = calloc(n ? n : 1, sizeof(*pf->vf));
	return pf->vf ? pf_autoprobe(p, pf) : -ENOMEM;
}

/* ---- vf ---- */

static int already_said(struct parser *p, const uint8_t mac[6], unsigned of)
{
	static const uint8_t none[6];

	for (unsigned i = 0; memcmp(mac, none, 6) && i < p->d->npfs; i++)
		for (unsigned n = 0; n < p->d->pf[i].nvfs; n++) {
			const struct vf_declared_vf *vf = &p->d->pf[i].vf[n];

			if ((vf->want.set & 1 << VF_MAC) && !memcmp(vf->want.mac, mac, 6) && !(&p->d->pf[i] == p->pf && n == of))
				return fail(p, "%s: VF %u of the pf of line %u has this address (line %u): two would answer to it", p->w.word, n,
					    p->d->pf[i].line, vf->mac_line);
		}
	return 0;
}

/* The MAC of the VFs of this line, in p->w.word: made up for each, or one for one VF. */
static int mac(struct parser *p, struct vf_settings *v, int nr)
{
	bool automatic = !strcmp(p->w.word, "auto"), none = !strcmp(p->w.word, "none");
	struct vf_why why;

	if (none)
		v->set |= 1 << VF_MAC;
	else if (!automatic && vf_settings_parse(v, VF_MAC, p->w.word, &why) < 0)
		return fail(p, "%s, or auto, or none", why.text);
	else if (!automatic && nr > 1)
		return fail(p, "%s for %d VFs: two would answer to it; give mac auto, or a line to each VF", p->w.word, nr);
	for (unsigned i = 0; i < p->pf->nvfs; i++) {
		struct vf_declared_vf *vf = &p->pf->vf[i];

		if (!p->in[i])
			continue;
		if (!automatic && already_said(p, v->mac, i) < 0)
			return -EINVAL;
		vf->mac_auto = automatic;
		vf->mac_line = p->w.line;
		vf->mac_column = column(p);
		if (automatic)
			vf->want.set &= ~(1u << VF_MAC);
	}
	return 0;
}

/* One KEY VALUE into v; the key was read. */
static int setting(struct parser *p, struct vf_settings *v, unsigned *said, const char *at[VF_KEYS], int nr)
{
	int key = vf_key_find(p->w.word);
	struct vf_why why;

	if (key < 0)
		return fail(p, "no setting of a VF is called %s; there are " VF_KEY_NAMES, p->w.word);
	if (*said & 1u << key)
		return fail(p, "%s was said before in this line", p->w.word);
	*said |= 1u << key;
	if (pv_words_want(&p->w, vf_key_name(key), "its value") < 0)
		return -EINVAL;
	at[key] = p->w.word_at;
	if (key == VF_MAC)
		return mac(p, v, nr);
	return vf_settings_parse(v, key, p->w.word, &why) < 0 ? fail(p, "%s", why.text) : 0;
}

/* What the settings of a VF mean together, with this line's over those above; at: of this line's words. */
static int settle(struct parser *p, const struct vf_settings *v, unsigned index, const char *const at[VF_KEYS])
{
	bool tags = (v->set & 1 << VF_VLAN) && v->vlan;

	if ((at[VF_MIN_RATE] || at[VF_MAX_RATE]) && (v->set & 1 << VF_MAX_RATE) && (v->set & 1 << VF_MIN_RATE) && v->max_rate && v->min_rate > v->max_rate)
		return fail_at(p, at[VF_MIN_RATE] ? at[VF_MIN_RATE] : at[VF_MAX_RATE], "VF %u: min_rate %u is above max_rate %u", index, v->min_rate,
			       v->max_rate);
	if (at[VF_QOS] && v->qos && !tags)
		return fail_at(p, at[VF_QOS], "VF %u: qos is a part of a VLAN's tag: give vlan as well", index);
	if (at[VF_VLAN_PROTO] && !tags)
		return fail_at(p, at[VF_VLAN_PROTO], "VF %u: vlan_proto is of a VLAN's tag: give vlan as well", index);
	return 0;
}

static int vf_line(struct parser *p)
{
	const char *at[VF_KEYS] = { 0 };
	struct vf_settings v = { 0 };
	unsigned said = 0;
	int nr, ret;

	if (below_pf(p, "vf") < 0 || pv_words_want(&p->w, "vf", "VFs such as 3, 0-6 or all") < 0)
		return -EINVAL;
	nr = range(p);
	if (nr < 0)
		return nr;
	while ((ret = pv_words_next(&p->w)) > 0) {
		ret = setting(p, &v, &said, at, nr);
		if (ret < 0)
			return ret;
	}
	if (ret == 0 && !said)
		return fail(p, "the line ends after the VFs: give settings, such as mac auto vlan 100");
	for (unsigned i = 0; ret == 0 && i < p->pf->nvfs; i++) {
		if (!p->in[i])
			continue;
		vf_settings_merge(&p->pf->vf[i].want, &v);
		ret = settle(p, &p->pf->vf[i].want, i, at);
	}
	return ret;
}

/* ---- pool ---- */

static int pool_line(struct parser *p)
{
	char name[VF_NAME_MAX];
	int ret;

	if (below_pf(p, "pool") < 0 || pv_words_want(&p->w, "pool", "its name") < 0 || pv_words_name(&p->w, "pool", VF_NAME_MAX - 1) < 0)
		return -EINVAL;
	strcpy(name, p->w.word);
	if (pv_words_want(&p->w, "a pool's name", "VFs such as 3, 0-6 or all") < 0)
		return -EINVAL;
	ret = range(p);
	for (unsigned i = 0; ret >= 0 && i < p->pf->nvfs; i++) {
		char *pool = p->pf->vf[i].pool;

		if (p->in[i] && *pool)
			return fail(p, "VF %u is in the pool %s already: a VF is in one pool", i, pool);
		if (p->in[i])
			strcpy(pool, name);
	}
	return ret < 0 ? ret : 0;
}

/* ---- the file ---- */

static int line(struct parser *p)
{
	static const char *const statements[] = { "pf", "vf", "pool", NULL };
	static int (*const parse[])(struct parser *p) = { pf_line, vf_line, pool_line };
	int ret = pv_words_next(&p->w), i;

	if (ret <= 0)
		return ret;
	i = pv_words_find(statements, p->w.word);
	if (i < 0)
		return fail(p, "no such statement: %s; there are pf, vf and pool", p->w.word);
	ret = parse[i](p);
	if (ret == 0)
		ret = pv_words_next(&p->w);
	return ret > 0 ? fail(p, "%s: nothing more is to be said in this line", p->w.word) : ret;
}

int vf_declare_parse(const char *text, size_t len, struct vf_declared *out, struct vf_why *why)
{
	struct parser p = { .d = out };
	int ret = 0;

	*out = (struct vf_declared){ 0 };
	pv_words_open(&p.w, text, len, why ? why->text : NULL, why ? sizeof(why->text) : 0);
	if (len > VF_TEXT_MAX)
		ret = fail_at(&p, text, "longer than %d bytes", VF_TEXT_MAX);
	while (ret == 0 && pv_words_line(&p.w))
		ret = line(&p);
	return ret;
}

void vf_declared_free(struct vf_declared *d)
{
	for (unsigned i = 0; i < d->npfs; i++)
		free(d->pf[i].vf);
	free(d->pf);
	*d = (struct vf_declared){ 0 };
}
