#!/bin/sh
# status.sh NUMBER: print success, failed or running for a job of LSF. A job that LSF knows no more has failed; where LSF
# does not answer, it may yet run.
answer=$(bjobs -noheader -o stat "$1" 2>&1)
case $answer in
  DONE) echo success ;;
  EXIT | ZOMBI | *"Job <$1> is not found"*) echo failed ;;
  *) echo running ;;
esac
