/* Greets whoever is named, in the words of the time of day where they are. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *greeting(int hour)
{
	if (hour < 5)
		return "Good night";
	if (hour < 12)
		return "Good morning";
	if (hour < 18)
		return "Good afternoon";
	return "Good evening";
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "world";
	time_t now = time(NULL);
	struct tm local;

	if (argc > 2)
		setenv("TZ", argv[2], 1);
	if (!localtime_r(&now, &local)) {
		perror("greeter");
		return EXIT_FAILURE;
	}
	printf("%s, %s!\n", greeting(local.tm_hour), name);
	return EXIT_SUCCESS;
}
