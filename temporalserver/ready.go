package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// ready waits until the server answers.
func (s *Server) ready(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()

	// Nobody has this run: the answer comes from history, over the frontend.
	absent := &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: s.namespace,
		Execution: &commonpb.WorkflowExecution{WorkflowId: "temporalserver-ready"},
	}
	workflows := workflowservice.NewWorkflowServiceClient(conn)
	err = retry(ctx, func() error {
		_, err := workflows.DescribeWorkflowExecution(ctx, absent)
		if _, ok := errors.AsType[*serviceerror.NotFound](serviceError(err)); ok {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	return nil
}

// retry calls fn until it succeeds or the context ends.
func retry(ctx context.Context, fn func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func serviceError(err error) error {
	if err == nil {
		return nil
	}
	return serviceerror.FromStatus(status.Convert(err))
}
