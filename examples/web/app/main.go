// Command web greets whoever asks, in the language that their browser prefers.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/text/language"
)

var (
	languages = language.NewMatcher([]language.Tag{language.English, language.German, language.Japanese})
	greetings = []string{"Hello", "Hallo", "こんにちは"}
)

func main() {
	address := os.Getenv("LISTEN")
	if address == "" {
		address = ":8080"
	}
	server := &http.Server{Addr: address, Handler: routes(), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func routes() http.Handler {
	r := chi.NewRouter()
	r.Get("/hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		_, i := language.MatchStrings(languages, r.Header.Get("Accept-Language"))
		fmt.Fprintf(w, "%s, %s\n", greetings[i], chi.URLParam(r, "name"))
	})
	return r
}
