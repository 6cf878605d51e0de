module example.org/web

go 1.26.0

require (
	github.com/go-chi/chi/v5 v5.2.3
	golang.org/x/text v0.31.0
)
