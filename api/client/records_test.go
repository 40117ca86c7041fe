package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// book serves a list of n records, by pages of its own choice, and counts what
// it is asked.
func book(t *testing.T, n, page int, asked *int) *Client {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		*asked++
		first := 0
		if at := r.URL.Query().Get("continue"); at != "" {
			var err error
			if first, err = strconv.Atoi(at); err != nil {
				t.Error(err)
			}
		}
		var l v1.LookupRecordList
		for i := first; i < min(n, first+page); i++ {
			l.Items = append(l.Items, v1.LookupRecord{VSID: 5001, CA: fmt.Sprint(i)})
		}
		if first+page < n {
			l.Continue = strconv.Itoa(first + page)
		}
		_ = json.NewEncoder(w).Encode(l)
	})
}

func TestRecordsOfSeveralPages(t *testing.T) {
	for _, n := range []int{0, 1, 10, 11, 35} {
		asked := 0
		got, err := book(t, n, 10, &asked).Records(t.Context(), RecordFilter{})
		if err != nil || len(got) != n || asked != max(1, (n+9)/10) {
			t.Errorf("%d of %d records by %d requests: %v", len(got), n, asked, err)
		}
		for i, r := range got {
			if r.CA != fmt.Sprint(i) {
				t.Errorf("record %d is %s", i, r.CA)
			}
		}
	}
}

func TestRecordsAreFetchedAsNeeded(t *testing.T) {
	asked, seen := 0, 0
	for _, err := range book(t, 100, 10, &asked).EachRecord(t.Context(), RecordFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 15 {
			break
		}
	}
	if asked != 2 {
		t.Errorf("%d requests for 15 records by tens", asked)
	}
}

func TestRecordsOfAListThatBreaks(t *testing.T) {
	asked := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > 3 {
			http.Error(w, "no", 500)
			return
		}
		_ = json.NewEncoder(w).Encode(v1.LookupRecordList{Items: []v1.LookupRecord{{VSID: 1}}, Continue: fmt.Sprint("x", asked)})
	})
	if got, err := c.Records(t.Context(), RecordFilter{}); err == nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	stuck := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"items":[],"continue":"x"}`)) })
	if _, err := stuck.Records(t.Context(), RecordFilter{}); err == nil || !strings.Contains(err.Error(), "does not go on") {
		t.Errorf("%v", err)
	}
}
