#ifndef WORDS_H
#define WORDS_H

#include <stddef.h>

/* words_count returns how many words, separated by white space, text has. */
size_t words_count(const char *text);

#endif
