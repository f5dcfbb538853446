#!/bin/sh
# status.sh NUMBER: print success, failed or running for a job of PBS. A job that PBS knows no more has failed; where PBS
# does not answer, it may yet run.
answer=$(qstat -x -f "$1" 2>&1)
case $answer in
  *"job_state = F"*"Exit_status = 0"*) echo success ;;
  *"job_state = F"* | *"Unknown Job"*) echo failed ;;
  *) echo running ;;
esac
