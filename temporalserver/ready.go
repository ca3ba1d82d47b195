package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// ready waits until the server answers through all of its services, and adds
// the search attributes that a namespace of an earlier start lacks.
func (s *Server) ready(ctx context.Context, o *Options) error {
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
	return s.addSearchAttributes(ctx, operatorservice.NewOperatorServiceClient(conn), o.SearchAttributes)
}

func (s *Server) addSearchAttributes(ctx context.Context, operator operatorservice.OperatorServiceClient, given map[string]string) error {
	types, err := searchAttributes(given)
	if err != nil || len(types) == 0 {
		return err
	}
	// missing has those of types that the namespace does not have.
	missing := func() (map[string]enumspb.IndexedValueType, error) {
		have, err := operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: s.namespace})
		if err != nil {
			return nil, err
		}
		lacks := map[string]enumspb.IndexedValueType{}
		for _, name := range slices.Sorted(maps.Keys(types)) {
			switch t, ok := have.CustomAttributes[name]; {
			case !ok:
				lacks[name] = types[name]
			case t != types[name]:
				return nil, &OptionError{"SearchAttributes", name + "=" + given[name],
					fmt.Errorf("namespace %s has it as %v", s.namespace, t)}
			}
		}
		return lacks, nil
	}
	lacks, err := missing()
	if err != nil || len(lacks) == 0 {
		return err
	}
	_, err = operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: s.namespace, SearchAttributes: lacks})
	if err != nil {
		return fmt.Errorf("add search attributes to namespace %s: %w", s.namespace, err)
	}
	// The services take them up in a while.
	return retry(ctx, func() error {
		lacks, err := missing()
		if err == nil && len(lacks) > 0 {
			err = fmt.Errorf("namespace %s lacks search attributes %v", s.namespace, slices.Sorted(maps.Keys(lacks)))
		}
		return err
	})
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
