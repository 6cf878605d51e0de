# Documents of keys: a date and a host's name as values, a date in a comment, and keys in the order of a set.
. ../lib.sh
one() {
	seed=1; [ $side = a ] || seed=2
	PYTHONHASHSEED=$seed python3 - $side $host "$(date -u -d "$time" -Iseconds)" <<-'PY'
	import sys
	side, host, time = sys.argv[1:]
	keys = {"alpha", "beta", "gamma", "delta", "epsilon"}
	with open(f"{side}/release.yaml", "w") as f:
	    f.write("kind: release\nmetadata:\n  labels: {app: web}\n")
	    f.write(f"  created: {time}\n  # written on {time}\n  builder:\n    host: '{host}'\n")
	with open(f"{side}/order.yaml", "w") as f:
	    f.write("features:\n" + "".join(f"  {k}: {len(k)}\n" for k in keys))
	with open(f"{side}/app.properties", "w") as f:
	    f.write(f"# {time}\nversion=1.0\nstamp = {time}\n")
	with open(f"{side}/order.properties", "w") as f:
	    f.write("".join(f"{k}={len(k)}\n" for k in keys))
	PY
}
both one
pack
