# A database of equal rows by another history.
. ../lib.sh
one() {
	rows="(1,'one'),(2,'two'),(3,'three')"
	if [ $side = a ]; then
		sqlite3 $side/app.db "PRAGMA page_size=1024; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES $rows;"
	else
		sqlite3 $side/app.db "PRAGMA page_size=1024; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);"
		sqlite3 $side/app.db "INSERT INTO t VALUES (9,'gone'),(3,'three');"
		sqlite3 $side/app.db "DELETE FROM t WHERE id=9; INSERT INTO t VALUES (2,'two'),(1,'one');"
	fi
}
both one
pack
