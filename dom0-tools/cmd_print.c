/* cmd_print.c - data for people (tables, indented lines) and for programs (JSON). */
#include "pvio.h"
#include <pvio/text.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_MAX = 256, COLUMNS_MAX = 12, INDENT = 2, KEY_WIDTH = 24 };

int print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return EXIT_DONE;
}

const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "";
}

/* What a backend or a guest chose to say must not reach the terminal as anything but text. */
static void put_text(const char *text)
{
	char *clean = strdup(text);

	if (clean)
		pv_text_clean(clean);
	fputs(clean ? clean : "?", stdout);
	free(clean);
}

static void cell(struct json_object *row, const struct column *c, char *buf)
{
	if (c->text)
		c->text(row, buf, CELL_MAX);
	else
		snprintf(buf, CELL_MAX, "%s", text_of(row, c->key));
	if (!*buf)
		snprintf(buf, CELL_MAX, "-");
	pv_text_clean(buf);
}

static void print_row(struct json_object *row, const struct column *columns, int n, const int *width)
{
	char buf[CELL_MAX];

	for (int i = 0; i < n; i++) {
		if (row)
			cell(row, &columns[i], buf);
		else
			snprintf(buf, sizeof(buf), "%s", columns[i].heading);
		if (i == n - 1 && !columns[i].right)
			printf("%s\n", buf);
		else
			printf("%*s%s", columns[i].right ? width[i] : -width[i], buf, i == n - 1 ? "\n" : "  ");
	}
}

void print_table(struct json_object *rows, const struct column *columns, int n, const char *none)
{
	int width[COLUMNS_MAX];
	size_t count = json_object_array_length(rows);
	char buf[CELL_MAX];

	if (count == 0) {
		printf("%s\n", none);
		return;
	}
	for (int i = 0; i < n; i++) {
		width[i] = strlen(columns[i].heading);
		for (size_t r = 0; r < count; r++) {
			cell(json_object_array_get_idx(rows, r), &columns[i], buf);
			if ((int)strlen(buf) > width[i])
				width[i] = strlen(buf);
		}
	}
	print_row(NULL, columns, n, width);
	for (size_t r = 0; r < count; r++)
		print_row(json_object_array_get_idx(rows, r), columns, n, width);
}

static bool is_nested(struct json_object *v)
{
	return json_object_get_type(v) == json_type_object ||
	       (json_object_get_type(v) == json_type_array && json_object_array_length(v) > 0 &&
		json_object_get_type(json_object_array_get_idx(v, 0)) == json_type_object);
}

void print_tree(struct json_object *o, int indent)
{
	if (json_object_get_type(o) == json_type_array) {
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			printf("%*s[%zu]\n", indent, "", i);
			print_tree(json_object_array_get_idx(o, i), indent + INDENT);
		}
		return;
	}
	json_object_object_foreach(o, key, v) {
		if (is_nested(v)) {
			printf("%*s", indent, "");
			put_text(key);
			puts(":");
			print_tree(v, indent + INDENT);
		} else {
			printf("%*s", indent, "");
			put_text(key);
			printf("%*s ", (int)strlen(key) < KEY_WIDTH ? KEY_WIDTH - (int)strlen(key) : 0, "");
			put_text(v ? json_object_get_string(v) : "-");
			putchar('\n');
		}
	}
}
