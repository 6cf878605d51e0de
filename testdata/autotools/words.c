#include "words.h"

#include <ctype.h>

size_t words_count(const char *text)
{
	size_t count = 0;
	int inside = 0;

	for (; *text; text++) {
		int blank = isspace((unsigned char)*text);
		count += !blank && !inside;
		inside = !blank;
	}
	return count;
}
