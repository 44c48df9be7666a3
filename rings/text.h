/* text.h - what strangers say, made fit for people's terminals and logs. Internal to pvio's programs; not installed. */
#ifndef PV_TEXT_H
#define PV_TEXT_H

/* Each byte of a control character (C0, delete, and C1, as UTF-8 or as a byte by itself) and of what is no UTF-8 becomes '?'. */
void pv_text_clean(char *s);

#endif
