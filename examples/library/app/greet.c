#include <popt.h>
#include <stdio.h>

int main(int argc, const char **argv)
{
	char *greeting = "Hello";
	int times = 1;
	struct poptOption options[] = {
		{"greeting", 'g', POPT_ARG_STRING | POPT_ARGFLAG_SHOW_DEFAULT, &greeting, 0, "what to say", "WORD"},
		{"times", 't', POPT_ARG_INT | POPT_ARGFLAG_SHOW_DEFAULT, &times, 0, "how often", "N"},
		POPT_AUTOHELP
		POPT_TABLEEND
	};
	poptContext context = poptGetContext("greet", argc, argv, options, 0);
	const char *name;
	int error;

	poptSetOtherOptionHelp(context, "NAME...");
	error = poptGetNextOpt(context);
	if (error < -1) {
		fprintf(stderr, "greet: %s: %s\n", poptBadOption(context, POPT_BADOPTION_NOALIAS), poptStrerror(error));
		return 2;
	}
	while ((name = poptGetArg(context)))
		for (int i = 0; i < times; i++)
			printf("%s, %s\n", greeting, name);
	poptFreeContext(context);
	return 0;
}
