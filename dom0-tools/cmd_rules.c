/* cmd_rules.c - pvio rules: a rules file is checked here, word by word, before anybody else sees it. */
#include "../netback/rules.h"
#include "pvio.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parse a file, and print what is wrong as FILE:LINE:COLUMN: message. Returns NULL after that; the caller frees *text. */
static struct rules_file *checked(struct pvio *p, const char *path, char **text)
{
	struct rules_file *f = NULL;
	char why[200];
	size_t len;
	int ret;

	*text = read_text(p, path, RULES_TEXT_MAX, &len);
	if (!*text)
		return NULL;
	ret = rules_parse(*text, len, &f, why, sizeof(why));
	if (ret < 0)
		say_in_file(p, path, why);
	return f;
}

int cmd_rules_check(struct pvio *p)
{
	char *text;
	struct rules_file *f = checked(p, p->args[0], &text);
	int rc = f ? EXIT_DONE : EXIT_FAILED;

	if (f)
		printf("%u rules, default %s%s\n", f->nr, rule_actions[f->otherwise], f->antispoof ? ", antispoof" : "");
	rules_file_free(f);
	free(text);
	return rc;
}

static struct json_object *device(struct pvio *p)
{
	struct json_object *params = json_object_new_object();

	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, "device", json_object_new_string(p->args[1]));
	return params;
}

int cmd_rules_load(struct pvio *p)
{
	struct json_object *params, *config, *o;
	char *text;
	struct rules_file *f = checked(p, p->args[2], &text);
	int rc = EXIT_FAILED;

	if (f) {
		params = device(p);
		config = json_object_new_object();
		json_object_object_add(config, "rules", *text ? json_object_new_string(text) : NULL);
		json_object_object_add(params, "config", config);
		o = ask(p, "set", params, 60000, &rc);
		rc = o ? EXIT_DONE : rc;
		json_object_put(o);
	}
	rules_file_free(f);
	free(text);
	return rc;
}

static void print_named(struct json_object *o, const char *key)
{
	static const struct column columns[] = {
		{ "NAME", "name", false, NULL }, { "PACKETS", "packets", true, NULL }, { "BYTES", "bytes", true, NULL }, { "OVER", "over_rate", true, NULL },
	};
	struct json_object *rows = NULL;

	if (!json_object_object_get_ex(o, key, &rows) || !json_object_array_length(rows))
		return;
	printf("\n%s:\n", key);
	print_table(rows, columns, sizeof(columns) / sizeof(columns[0]), "none");
}

static void print_rules(struct json_object *o)
{
	static const struct column columns[] = {
		{ "LINE", "line", true, NULL }, { "PACKETS", "packets", true, NULL }, { "BYTES", "bytes", true, NULL },
		{ "OVER", "over_rate", true, NULL }, { "RULE", "rule", false, NULL },
	};
	struct json_object *rules = NULL, *otherwise = NULL;

	json_object_object_get_ex(o, "rules", &rules);
	json_object_object_get_ex(o, "default", &otherwise);
	print_table(rules, columns, sizeof(columns) / sizeof(columns[0]), "no rules");
	printf("default: %s, %s packets, %s bytes\n", text_of(otherwise, "action"), text_of(otherwise, "packets"), text_of(otherwise, "bytes"));
	printf("antispoof: %s, %s packets dropped\n", text_of(o, "antispoof"), text_of(o, "rules_spoofed"));
	printf("dropped: %s by rules, %s with impossible headers, %s that hide their ports\n", text_of(o, "rules_dropped"), text_of(o, "rules_bad"),
	       text_of(o, "rules_tiny"));
	printf("rejected: %s answered, %s not\n", text_of(o, "rules_rejected"), text_of(o, "rules_unanswered"));
	print_named(o, "counts");
	print_named(o, "rates");
}

int cmd_rules_show(struct pvio *p)
{
	struct json_object *params = device(p), *o;
	int rc;

	json_object_object_add(params, "what", json_object_new_string("rules.show"));
	o = ask(p, "ask", params, 30000, &rc);
	if (!o)
		return rc;
	if (p->json)
		return print_json(o);
	print_rules(o);
	json_object_put(o);
	return EXIT_DONE;
}
