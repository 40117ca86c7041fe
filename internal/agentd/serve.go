//go:build linux

package agentd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/hnvgate/hnvgate/internal/agentapi"
)

func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/desired", a.putDesired)
	mux.HandleFunc("GET /v1/state", a.getState)
	mux.HandleFunc("DELETE /v1/agent", a.deleteAgent)
	for _, p := range a.Parts {
		if h := p.Part.Handler(); h != nil {
			prefix := "/v1/" + p.Name
			mux.Handle(prefix+"/", http.StripPrefix(prefix, h))
		}
	}
	return mux
}

func (a *agent) putDesired(w http.ResponseWriter, r *http.Request) {
	d, err := readDesired(http.MaxBytesReader(w, r.Body, agentapi.MaxBody))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before, digest := a.desired, a.digest
	if err := a.accept(d); err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	if a.digest != digest { // else the copy is there
		if err := a.keep(); err != nil {
			a.desired, a.digest = before, digest
			fail(w, http.StatusInternalServerError, fmt.Errorf("keep the desired state: %w", err))
			return
		}
	}
	a.apply(r.Context())
	a.answerState(w)
}

// readDesired decodes strictly: a field that is not known is a caller of another
// version, which must not be half understood.
func readDesired(r io.Reader) (agentapi.Desired, error) {
	var d agentapi.Desired
	b, err := io.ReadAll(r)
	if err != nil {
		return d, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return d, errors.New("something follows the desired state")
	}
	return d, nil
}

func (a *agent) getState(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answerState(w)
}

func (a *agent) answerState(w http.ResponseWriter) {
	s, err := a.state()
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, s)
}

func (a *agent) deleteAgent(w http.ResponseWriter, r *http.Request) {
	keep := false
	switch r.URL.Query().Get("keep") {
	case "true":
		keep = true
	case "false":
	default:
		fail(w, http.StatusBadRequest, errors.New("say keep=true or keep=false"))
		return
	}
	select {
	case a.end <- keep:
	default: // it ends already
	}
	w.WriteHeader(http.StatusAccepted)
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

func fail(w http.ResponseWriter, status int, err error) {
	answer(w, status, agentapi.Error{Message: err.Error()})
}
