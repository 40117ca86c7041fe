package client

import (
	"context"
	"net/http"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// LearnedRecords gives the records that were reported at these provider
// addresses; without any, only the gateway's state.
func (c *Client) LearnedRecords(ctx context.Context, pas []string) (v1.LearnedState, error) {
	return get[v1.LearnedState](ctx, c, with(path("learned-records"), "pa", strings.Join(pas, ",")))
}

// ReportLearned reports what this machine learned.
func (c *Client) ReportLearned(ctx context.Context, r v1.LearnedReport) (v1.LearnedResult, error) {
	return send[v1.LearnedResult](ctx, c, http.MethodPost, path("learned-records"), r)
}
