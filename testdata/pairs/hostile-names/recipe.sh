# Names and values that would reach a terminal, a page or a shell.
. ../lib.sh
mkdir -p a b
one() {
	printf '\033]0;title\007 %s\n' $side >"$side/$(printf 'esc\033[31mred')"
	printf '<script>alert("%s")</script>\n' $side >"$side/<img src=x onerror=alert(1)>"
	printf '`rm -rf /` | %s @everyone #1\n' $side >"$side/\$(touch x);'\"\`"
	printf '\342\200\256%s\n' $side >"$side/$(printf 'evil\342\200\256txt.exe')"
}
both one
pack
