#include <assert.h>

#include "words.h"

int main(void)
{
	assert(words_count("") == 0);
	assert(words_count(" \t\n") == 0);
	assert(words_count("one") == 1);
	assert(words_count("  one two\nthree ") == 3);
	return 0;
}
