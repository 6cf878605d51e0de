#include "config.h"

#include <stdio.h>

#include "words.h"

int main(int argc, char **argv)
{
	size_t count = 0;

	for (int i = 1; i < argc; i++)
		count += words_count(argv[i]);
	printf("%zu words, counted by %s\n", count, PACKAGE_STRING);
	return 0;
}
